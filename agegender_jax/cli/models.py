"""Print a table of all nets: parameters, multiply-adds by image size, and published counts.

python -m launch.models

Only shapes are computed. Parameters and multiply-adds (M, millions, by image size) are those of the backbone without
heads; the parameters of levi_hassner depend on the image size, here 224 pixels. The last columns are the same net with
its published head, and the source of its layers.
"""

from agegender_jax.cli import app

COMPUTES = False


def main() -> None:
    app.prepare_jax()
    from agegender_jax.models import sizes  # imports jax

    print(sizes.table())
