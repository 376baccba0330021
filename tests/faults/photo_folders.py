"""Folders of photos, many of them unusable, for agegender predict: exit 0 and a status for each file."""

import json
import os

import drawn_photos
import numpy as np
import small_weights
import test_extras
from PIL import Image

from tests.faults.registry import Outcome, point
from tests.faults.trees import bad_pictures, good_pictures

CROWD = 50  # faces of one photo
JUNK = 0.3  # share of the files
PROGRAM = """
import pathlib
from agegender_jax import weights
weights.FOLDER = pathlib.Path(sys.argv.pop(1))
from agegender_jax.cli.__main__ import main; main()
"""


def crowd(count):
    """Return a photo of `count` faces in rows of ten."""
    photo = drawn_photos.background(130 * -(-count // 10) + 40, 1340)
    for i in range(count):
        face = drawn_photos.face(2 + i % 7)
        photo = drawn_photos.paste(photo, face, (85 + 130 * (i % 10), 85 + 130 * (i // 10)), 110)
    return photo


def write(folder, count, rng):
    """Write the files; return the expected number of faces by name, None for a file that is no picture."""
    good, _ = good_pictures()
    bad = list(bad_pictures(good).values())
    photos = {
        "a face": drawn_photos.face(),
        "a chip": np.asarray(Image.fromarray(drawn_photos.face(3)).resize((112, 112))),
        "no face": drawn_photos.background(90, 120),
        "a crowd": crowd(CROWD),
        "two": crowd(2),
    }
    faces = {"a face": 1, "a chip": 1, "no face": 0, "a crowd": CROWD, "two": 2}
    folder.mkdir()
    expected, kinds = {}, list(photos)
    junk = set(rng.sample(range(count), round(JUNK * count)))
    for i in range(count):
        name = f"{i:03}.jpg"
        if i in junk:
            (folder / name).write_bytes(bad[i % len(bad)])
            expected[name] = None
        else:
            kind = kinds[i % len(kinds)]
            (folder / name).write_bytes(drawn_photos.encode(photos[kind], "JPEG", quality=95))
            expected[name] = faces[kind]
    return expected


@point("agegender predict on a folder with 30 % junk, no faces and 50 faces: exit 0, a status for each", 0, 60)
def mixed(trials, rng, folder):
    expected = write(folder / "photos", trials, rng)
    (folder / "weights").mkdir()
    small_weights.write(folder / "weights")
    arguments = ("predict", str(folder / "photos"), f"--out={folder / 'out'}")
    done = test_extras.python(PROGRAM, [], str(folder / "weights"), *arguments, cwd=folder)
    failures = [f"exit {done.returncode}: {done.stderr[-300:]}"] if done.returncode else []
    rows = {}
    for line in (folder / "out" / "predictions.jsonl").read_text().splitlines():
        row = json.loads(line)
        rows.setdefault(os.path.basename(row["file"]), []).append(row)
    for name, faces in expected.items():
        got = ["ok" if row["status"] == "unsure" else row["status"] for row in rows.get(name, [])]
        status = {None: ["unreadable"], 0: ["no_face"]}.get(faces, ["ok"] * (faces or 0))
        failures += [f"{name}: {got[:3]} x {len(got)} instead of {status[:1]} x {len(status)}"] if got != status else []
    return Outcome(trials, failures, {"junk": sum(faces is None for faces in expected.values())})
