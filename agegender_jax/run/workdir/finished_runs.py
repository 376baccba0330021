"""Files of finished runs, for commands that compare several."""

import csv
import json
import shutil

import numpy as np

from agegender_jax import csv_cells, files
from agegender_jax.errors import DataError
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.workdir import Workdir, training_summary
from agegender_jax.structs import Probs


def is_finished(run: Workdir) -> bool:
    """Return whether the run has tested its best checkpoint, which is its last step."""
    return run.results.exists()


def tested(run: Workdir) -> dict:
    """Return the entry of the run's net in its results.json: step, parameters, collapsed heads and more.

    Raises:
      DataError: the file is missing or damaged.
    """
    try:
        return json.loads(run.results.read_bytes())["models"][-1]
    except (OSError, *files.MALFORMED):
        raise _damaged("results", run.results, run) from None


def saw_test_images(run: Workdir) -> bool:
    """Return whether its results.json says that images of its test split were seen in training."""
    return bool((run.read_results() or {}).get("allow_leak"))


def predictions(run: Workdir, dataset: Dataset, fix: str = "") -> Probs:
    """Return the run's predictions for the test split, from predictions.csv: numpy Probs in the order of `dataset`.

    Args:
      fix: the advice in the error, if the run does not belong to the command.

    Raises:
      DataError: the file is missing, damaged or for other images.
    """
    names = [dataset.prepared.file[i] for i in dataset.indices("test")]
    order = sorted(range(len(names)), key=names.__getitem__)  # as the file is
    try:
        if (run.read_results() or {}).get("predictions_sha256", now := files.sha256(run.predictions)) != now:
            raise ValueError
        with open(run.predictions, newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = list(csv.DictReader(file))
        if [csv_cells.original(row["file"]) for row in rows] != [names[i] for i in order]:
            raise ValueError
        columns = [name for name in rows[0] if name.startswith("p_age_")]
        age = np.array([[float(row[name]) for name in columns] for row in rows])
        female = np.array([float(row["p_female"]) for row in rows])
    except (OSError, *files.MALFORMED):
        raise _damaged("predictions", run.predictions, run, fix) from None
    back = np.argsort(order)
    return Probs(age[back], np.stack([1 - female, female], -1)[back])


def seconds(run: Workdir) -> float:
    """Return the time of the training steps in seconds, with compilation and without evaluations, from the log."""
    return round(training_summary.read(run, run.path.name, 0).seconds() or 0.0, 1)


def lighten(run: Workdir) -> None:
    """Remove all checkpoints except the one that was tested."""
    for folder in run.checkpoints.glob("[0-9]*"):
        if folder.name != str(tested(run)["step"]):
            shutil.rmtree(folder)


def _damaged(what: str, path, run: Workdir, fix: str = "") -> DataError:
    return DataError(
        f"the {what} of a run are missing, damaged or of other images",
        str(path),
        fix or f"delete {run.path} and repeat the command, which trains it again",
    )
