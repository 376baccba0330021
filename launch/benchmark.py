"""python -m launch.benchmark: see benchmarks/command.py."""

from agegender_jax.cli import app
from benchmarks import command

if __name__ == "__main__":
    app.run(command)
