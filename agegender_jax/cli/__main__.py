"""The installed command: `agegender COMMAND …` does what `python -m launch.COMMAND …` does."""

import importlib
import sys

COMMANDS = {
    "train": "train a net, or resume",
    "evaluate": "score trained nets, alone and as an ensemble",
    "audit": "examine a data source",
    "predict": "predict the age and gender of the faces in photos",
    "explain": "explain the predictions for the faces in photos, or of trained nets",
    "demo": "predict for photos on a local web page",
    "align": "make aligned chips of the faces in pictures",
    "export": "write nets to files for other programs",
    "ablate": "compare training variants over seeds",
    "baselines": "train all systems that the paper names, and compare them",
    "calibrate": "fit the intervals and thresholds of predictions on val",
    "weights": "list the shipped weights",
    "models": "list all nets",
}


def main() -> None:
    """Run the command that the first argument names, with the other arguments as its flags."""
    try:
        _run()
    except KeyboardInterrupt:  # while modules are imported
        print("stopped by Ctrl-C; the same command starts again", file=sys.stderr)
        sys.exit(130)


def _run() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name == "--version":
        from agegender_jax import __version__

        print(f"agegender_jax {__version__}")
    elif name in ("--help", "-h", "help"):
        print("agegender COMMAND [ARGUMENTS]; agegender COMMAND --help lists its flags.\n")
        for command, does in COMMANDS.items():
            print(f"  {command:<10} {does}")
    elif name not in COMMANDS:
        from agegender_jax.suggestions import nearest

        print(
            f"error: unknown command {name!r}\n  where: agegender\n  fix:   {nearest(name, COMMANDS)}", file=sys.stderr
        )
        sys.exit(2)
    else:
        from agegender_jax.cli import app

        module = importlib.import_module(f"agegender_jax.cli.{name}")
        sys.argv[:2] = [f"agegender {name}"]
        app.run(module)


if __name__ == "__main__":
    main()
