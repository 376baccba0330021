"""python -m launch.align: see agegender_jax/cli/align.py."""

from agegender_jax.cli import align, app

if __name__ == "__main__":
    app.run(align)
