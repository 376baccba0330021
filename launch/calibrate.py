"""python -m launch.calibrate: see agegender_jax/cli/calibrate.py."""

from agegender_jax.cli import app, calibrate

if __name__ == "__main__":
    app.run(calibrate)
