"""python -m launch.ablate: see agegender_jax/cli/ablate.py."""

from agegender_jax.cli import ablate, app

if __name__ == "__main__":
    app.run(ablate)
