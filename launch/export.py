"""python -m launch.export: see agegender_jax/cli/export.py."""

from agegender_jax.cli import app, export

if __name__ == "__main__":
    app.run(export)
