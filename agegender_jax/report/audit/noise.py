"""Bounds on accuracy and error, from pairs of labels of one picture."""

from collections import Counter

import numpy as np

from agegender_jax.data import near_duplicates, source_problems
from agegender_jax.data.prepared_source import Prepared
from agegender_jax.labels import GENDERS, NUM_AGE_BUCKETS, RACES
from agegender_jax.metrics import label_noise


def noise(faces: Prepared, pairs: source_problems.Pairs) -> dict:
    """Return bounds from exact pairs, from exact pairs without the most frequent label, and from near copies."""
    exact = pairs.exact[source_problems.independent(faces, pairs.exact)]
    differences = source_problems.disagreements(faces, exact)
    most = recurring(faces, exact[differences["bucket"] | differences["gender"]])
    copies = pairs.near[pairs.distance <= near_duplicates.COPY_LIMIT]
    rest, copies = exact[~_has_label(faces, exact, most)], copies[source_problems.independent(faces, copies)]
    picture = np.unique(faces.content, return_inverse=True)[1]
    return {
        "exact": _ceilings(faces, exact, picture),
        "exact_without_recurring": _ceilings(faces, rest, picture),
        "near_copies": _ceilings(faces, copies, faces.group),
    }


def _has_label(faces: Prepared, pairs: np.ndarray, label: dict | None) -> np.ndarray:
    """Return whether a pair has a file with this label, bool [K]."""
    if label is None:
        return np.zeros(len(pairs), bool)
    same = faces.age_text == label["age"]
    same &= faces.gender == GENDERS.index(label["gender"])
    same &= faces.race == RACES.index(label["race"])
    return same[pairs].any(1)


def _ceilings(faces: Prepared, pairs: np.ndarray, same: np.ndarray) -> dict:
    """Return bounds from pairs of labels; `same`: int [N], equal for files of one picture."""
    differences, picture = source_problems.disagreements(faces, pairs), same[pairs[:, 0]]
    return {
        "age_accuracy": label_noise.accuracy_ceiling(differences["bucket"], picture, NUM_AGE_BUCKETS),
        "gender_accuracy": label_noise.accuracy_ceiling(differences["gender"], picture, len(GENDERS)),
        "aabd": label_noise.distance_floor(differences["buckets_apart"].astype(float), picture),
        "age_mae": label_noise.distance_floor(differences["years_apart"], picture),
    }


def recurring(faces: Prepared, pairs: np.ndarray) -> dict | None:
    """Return the most frequent label in these pairs, such as one that was assigned to a whole batch of files."""
    labels = Counter(label for pair in pairs.tolist() for label in {source_problems.label_of(faces, i) for i in pair})
    if not labels:
        return None
    (age, gender, race), count = min(labels.items(), key=lambda item: (-item[1], item[0]))
    return {"age": age, "gender": GENDERS[gender], "race": RACES[race], "pairs": count, "of": len(pairs)}
