"""What the labels allow, by the pairs of labels that one picture has."""

from collections import Counter

import numpy as np

from agegender_jax.data import audit, near_duplicates
from agegender_jax.data.prepared import Prepared
from agegender_jax.labels import GENDERS, NUM_AGE_BUCKETS, RACES
from agegender_jax.metrics import label_noise


def noise(faces: Prepared, pairs: audit.Pairs) -> dict:
    """Ceilings from exact pairs, from those without the label that recurs most in them, and from near copies."""
    exact = pairs.exact[audit.independent(faces, pairs.exact)]
    found = audit.disagreements(faces, exact)
    most = recurring(faces, exact[found["bucket"] | found["gender"]])
    copies = pairs.near[pairs.distance <= near_duplicates.COPY_LIMIT]
    rest, copies = exact[~_holds(faces, exact, most)], copies[audit.independent(faces, copies)]
    picture = np.unique(faces.content, return_inverse=True)[1]
    return {
        "exact": _ceilings(faces, exact, picture),
        "exact_without_recurring": _ceilings(faces, rest, picture),
        "near_copies": _ceilings(faces, copies, faces.group),
    }


def _holds(faces: Prepared, pairs: np.ndarray, label: dict | None) -> np.ndarray:
    """Whether a pair has a file of this label, bool [K]."""
    if label is None:
        return np.zeros(len(pairs), bool)
    same = faces.age_text == label["age"]
    same &= faces.gender == GENDERS.index(label["gender"])
    same &= faces.race == RACES.index(label["race"])
    return same[pairs].any(1)


def _ceilings(faces: Prepared, pairs: np.ndarray, same: np.ndarray) -> dict:
    """What the labels allow, from pairs of labels; `same`: int [N], equal for files of one picture."""
    found, picture = audit.disagreements(faces, pairs), same[pairs[:, 0]]
    return {
        "age_accuracy": label_noise.accuracy_ceiling(found["bucket"], picture, NUM_AGE_BUCKETS),
        "gender_accuracy": label_noise.accuracy_ceiling(found["gender"], picture, len(GENDERS)),
        "aabd": label_noise.distance_floor(found["buckets_apart"].astype(float), picture),
        "age_mae": label_noise.distance_floor(found["years_apart"], picture),
    }


def recurring(faces: Prepared, pairs: np.ndarray) -> dict | None:
    """The label that stands in most of these pairs: one label given to a whole batch of files shows up here."""
    labels = Counter(label for pair in pairs.tolist() for label in {audit.label_of(faces, i) for i in pair})
    if not labels:
        return None
    (age, gender, race), count = min(labels.items(), key=lambda item: (-item[1], item[0]))
    return {"age": age, "gender": GENDERS[gender], "race": RACES[race], "pairs": count, "of": len(pairs)}
