"""python -m launch.audit: see agegender_jax/cli/audit.py."""

from agegender_jax.cli import app, audit

if __name__ == "__main__":
    app.run(audit)
