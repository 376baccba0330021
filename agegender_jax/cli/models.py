"""Prints all nets: parameters, multiply-adds in millions by image size, and what was published.

python -m launch.models

Nothing is computed but shapes. Parameters and multiply-adds (M, millions, by image size) are of the backbone without
heads; levi_hassner's parameters grow with the image, here of 224 pixels. Then the same net with the head that it was
published with, and where its layers come from.
"""

COMPUTES = False


def main() -> None:
    from agegender_jax.models import sizes  # imports jax

    print(sizes.table())
