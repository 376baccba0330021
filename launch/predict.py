"""python -m launch.predict: see agegender_jax/cli/predict.py."""

from agegender_jax.cli import app, predict

if __name__ == "__main__":
    app.run(predict)
