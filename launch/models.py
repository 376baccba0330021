"""python -m launch.models: see agegender_jax/cli/models.py."""

from agegender_jax.cli import app, models

if __name__ == "__main__":
    app.run(models)
