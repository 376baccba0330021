"""Print a table of all nets: parameters, multiply-adds by image size, and published counts.

python -m launch.models

Only shapes are computed. Parameters and multiply-adds (in millions, M, for several image sizes) are those of the
backbone without heads; nets whose parameters depend on the image size are counted at 224 pixels. The last columns give
the same net with its published head, and the source of its layers. Systems with heads of their own are counted with
both; parts that only training uses do not count.
"""

from agegender_jax.cli import app

COMPUTES = False


def main() -> None:
    app.prepare_jax()
    from agegender_jax.models import sizes  # imports jax

    print(sizes.table())
