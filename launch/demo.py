"""python -m launch.demo: see agegender_jax/cli/demo.py."""

from agegender_jax.cli import app, demo

if __name__ == "__main__":
    app.run(demo)
