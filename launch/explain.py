"""python -m launch.explain: see agegender_jax/cli/explain.py."""

from agegender_jax.cli import app, explain

if __name__ == "__main__":
    app.run(explain)
