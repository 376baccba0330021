"""predictions.csv: one line per image, with the predictions of the last model."""

import csv
import io
from collections.abc import Sequence

import numpy as np

from agegender_jax import csv_cells, metrics
from agegender_jax.labels import GENDERS
from agegender_jax.structs import Probs


def predictions(file: Sequence[str], age_text: Sequence[str], age: np.ndarray, gender: np.ndarray, probs: Probs) -> str:
    """Return the text of the CSV, sorted by `file`, whose cells `csv_cells` guards.

    Args:
      file, age_text: [N] str; age: int [N, 2], true; gender: int [N], true; probs: numpy Probs of the N examples.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    age_columns = [f"p_age_{i}" for i in range(probs.age.shape[1])]
    writer.writerow(["file", "true_age", "true_gender", "age_bucket", "gender", "p_female", *age_columns])
    bucket, predicted = metrics.predicted_bucket(probs.age, age), probs.gender.argmax(-1)
    names = metrics.bucket_names(age)
    for i in sorted(range(len(file)), key=lambda i: file[i]):
        cells = [f"{p:.6f}" for p in (probs.gender[i, 1], *probs.age[i])]
        name = csv_cells.guard(str(file[i]))
        writer.writerow([name, age_text[i], GENDERS[gender[i]], names[bucket[i]], GENDERS[predicted[i]], *cells])
    return out.getvalue()
