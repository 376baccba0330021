"""python -m launch.evaluate: see agegender_jax/cli/evaluate.py."""

from agegender_jax.cli import app, evaluate

if __name__ == "__main__":
    app.run(evaluate)
