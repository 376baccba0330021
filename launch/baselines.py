"""python -m launch.baselines: see agegender_jax/cli/baselines.py."""

from agegender_jax.cli import app, baselines

if __name__ == "__main__":
    app.run(baselines)
