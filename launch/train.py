"""python -m launch.train: see agegender_jax/cli/train.py."""

from agegender_jax.cli import app, train

if __name__ == "__main__":
    app.run(train)
