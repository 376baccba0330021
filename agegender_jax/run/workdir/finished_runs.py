"""What a run has left when it is done, for jobs that compare many."""

import csv
import json
import shutil

import numpy as np

from agegender_jax.errors import DataError
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.workdir import Workdir, summary
from agegender_jax.structs import Probs


def is_finished(place: Workdir) -> bool:
    """Whether the run has tested its best checkpoint, which is the last it does."""
    return place.results.exists()


def tested(place: Workdir) -> dict:
    """The run's net in its results.json: step, parameters, collapsed, and more.

    Raises:
      DataError: the file is missing or damaged.
    """
    try:
        return json.loads(place.results.read_bytes())["models"][-1]
    except (OSError, ValueError, LookupError, TypeError):
        raise _damaged("results", place.results, place) from None


def predictions(place: Workdir, faces: Dataset) -> Probs:
    """What the run answered to the test split, from its predictions.csv: numpy Probs in the order of `faces`.

    Raises:
      DataError: the file is missing, damaged or of other images.
    """
    names = [faces.prepared.file[i] for i in faces.indices("test")]
    order = sorted(range(len(names)), key=names.__getitem__)  # as the file is
    try:
        with open(place.predictions, newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = list(csv.DictReader(file))
        if [row["file"] for row in rows] != [names[i] for i in order]:
            raise ValueError
        columns = [name for name in rows[0] if name.startswith("p_age_")]
        age = np.array([[float(row[name]) for name in columns] for row in rows])
        female = np.array([float(row["p_female"]) for row in rows])
    except (OSError, LookupError, TypeError, ValueError):
        raise _damaged("answers", place.predictions, place) from None
    back = np.argsort(order)
    return Probs(age[back], np.stack([1 - female, female], -1)[back])


def seconds(place: Workdir) -> float:
    """What the training steps took, compilation with them and evaluations not, from the log's train lines."""
    return round(summary.read(place, place.path.name, 0).seconds() or 0.0, 1)


def lighten(place: Workdir) -> None:
    """Removes all checkpoints but the one that was tested."""
    for folder in place.checkpoints.glob("[0-9]*"):
        if folder.name != str(tested(place)["step"]):
            shutil.rmtree(folder)


def _damaged(what: str, path, place: Workdir) -> DataError:
    return DataError(
        f"the {what} of a run are missing, damaged or of other images",
        str(path),
        f"delete {place.path} and give the same command again, which trains it anew",
    )
