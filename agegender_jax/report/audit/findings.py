"""audit.json: the findings of an audit. docs/audit.md describes its fields."""

from collections import Counter

import numpy as np

from agegender_jax import metrics
from agegender_jax.data import near_duplicates, source_problems
from agegender_jax.data.image_stats import ImageStats
from agegender_jax.data.prepared_source import Prepared
from agegender_jax.labels import GENDERS, RACES
from agegender_jax.report.audit.noise import noise, recurring

SCHEMA = 1
LABELS = ("bucket", "gender", "race")


def findings(
    faces: Prepared, pairs: source_problems.Pairs, stats: ImageStats, leakage: dict, command: list[str]
) -> dict:
    """Return the value of audit.json.

    Args:
      pairs, stats: duplicates and image statistics of `faces`.
      leakage: leakage between splits, from `run.audit`.
      command: arguments of the program.
    """
    name = faces.file.tolist()
    exact = [_exact(faces, files) for files in source_problems.exact_groups(faces)]
    near = [_near(faces, files) for files in source_problems.near_groups(faces)]
    size = {i: {"width": int(stats.width[i]), "height": int(stats.height[i])} for i in range(len(name))}
    return {
        "schema": SCHEMA,
        "command": command,
        "source": {"name": faces.name, "fingerprint": faces.fingerprint},
        "n": len(name),
        "unusable": [{"file": file, "reason": reason} for file, reason in faces.bad],
        "left_out": [{"path": path, "reason": reason} for path, reason in faces.left_out],
        "remarks": [{"file": file, "remark": text} for file, text in source_problems.remarks(faces)],
        "exact": _kind(faces, pairs.exact, exact),
        "near": _kind(faces, pairs.near, near)
        | {
            "distances": _counts(pairs.distance),
            "mirrored": int(pairs.mirrored.sum()),
        },
        "leakage": leakage,
        "label_noise": noise(faces, pairs),
        "images": {
            "sizes": [{"width": width, "height": height, "n": n} for width, height, n in stats.sizes()],
            "odd_size": [{"file": name[i]} | size[i] for i in stats.odd_sizes()],
            "tiny": [{"file": name[i]} | size[i] for i in stats.tiny()],
            "blank": [{"file": name[i], "spread": round(float(stats.spread[i]), 2)} for i in stats.blank()],
        },
        "labels": _labels(faces),
    }


def described(faces: Prepared, file: int) -> dict:
    """Return a file with its label."""
    age, gender, race = source_problems.label_of(faces, file)
    return {"file": str(faces.file[file]), "age": age, "gender": GENDERS[gender], "race": RACES[race]}


def _exact(faces: Prepared, files: np.ndarray) -> dict:
    return {"files": [described(faces, i) for i in files.tolist()], **_differ(faces, files)}


def _near(faces: Prepared, files: np.ndarray) -> dict:
    links = [[str(faces.file[i]), str(faces.file[j]), bits] for i, j, bits in source_problems.links(faces, files)]
    return _exact(faces, files) | {"links": links}


def _differ(faces: Prepared, files: np.ndarray) -> dict:
    """Return the labels that differ within a group, and the largest age difference in years."""
    age, years = faces.age[files], faces.age_years[files]
    differ = {
        "bucket": age[:, 0].max() > age[:, 1].min(),  # ranges that overlap pairwise have a bucket in common
        "gender": len(set(faces.gender[files].tolist())) > 1,
        "race": len(set(faces.race[files].tolist())) > 1,
    }
    known = years[years >= 0]
    apart = int(known.max() - known.min()) if len(known) > 1 else None
    return {"differ": [name for name in LABELS if differ[name]], "years_apart": apart}


def _kind(faces: Prepared, pairs: np.ndarray, groups: list[dict]) -> dict:
    """Return counts of pairs, exact or near, and all groups, the strongest contradictions first."""
    differences = source_problems.disagreements(faces, pairs)
    apart = differences["years_apart"][~np.isnan(differences["years_apart"])]
    differing = {name: int(differences[name].sum()) for name in LABELS}
    years = {"n": len(apart), "mean": float(apart.mean()), "largest": int(apart.max())} if len(apart) else None
    contradicting = np.flatnonzero(differences["bucket"] | differences["gender"])
    return {
        "pairs": len(pairs),
        "files": sum(len(group["files"]) for group in groups),
        "differing": differing
        | {"any": int((differences["bucket"] | differences["gender"] | differences["race"]).sum())},
        "years_apart": years,
        "years_apart_counts": _counts(apart.astype(int)),
        "recurring": recurring(faces, pairs[contradicting]),
        "groups": sorted(groups, key=_gravity),
    }


def _gravity(group: dict) -> tuple:
    """Return a sort key: copies before pictures that may show different people, then the strongest contradictions."""
    farthest = max((bits for *_, bits in group.get("links", [])), default=0)
    return farthest > near_duplicates.COPY_LIMIT, -len(group["differ"]), -(group["years_apart"] or 0)


def _labels(faces: Prepared) -> dict:
    """Return histograms; a label that is a range counts under the name of the range."""
    ranges, index = np.unique(faces.age, axis=0, return_inverse=True)
    names = [metrics.range_name(*r) for r in ranges]
    cells = Counter(zip(index.ravel().tolist(), faces.gender.tolist(), faces.race.tolist(), strict=True))
    return {
        "age_years": _counts(faces.age_years[faces.age_years >= 0]),
        "age": {name: int((index.ravel() == i).sum()) for i, name in enumerate(names)},
        "gender": {name: int((faces.gender == i).sum()) for i, name in enumerate(GENDERS)},
        "race": {name: int((faces.race == i).sum()) for i, name in enumerate(RACES)},
        "cells": [
            {"age": names[age], "gender": GENDERS[gender], "race": RACES[race], "n": n}
            for (age, gender, race), n in sorted(cells.items())
        ],
    }


def _counts(values: np.ndarray) -> dict[str, int]:
    """Return the number of occurrences of each integer."""
    occurring, counts = np.unique(values, return_counts=True)
    return {str(value): count for value, count in zip(occurring.tolist(), counts.tolist(), strict=True)}
