"""Measure how often each warning about a face is raised where it should be, and where it should not.

python -m benchmarks.face_flags --source=fairface_10k.tar --workdir=runs/ran [--faces=400] [--seed=0]

Each picture of the source is predicted unchanged, on a background of its mean colour with a margin of half its width,
and changed so that one warning applies. Hits are the share of the changed faces that were found and have the warning.
False alarms are the share of the other pictures (the column says which) that have it. Pictures that are already grey
are left out and counted. Writes results/face_flags.json.
"""

import functools

import cv2
import numpy as np
from absl import app, flags, logging
from PIL import Image

from agegender_jax import Predictor
from agegender_jax.cli.exits import guard
from agegender_jax.data import sources
from agegender_jax.data.decoding import decode
from agegender_jax.photos.face_flags import GREY_CHROMA, chroma
from agegender_jax.run.host import ynnpack
from benchmarks import result_files, tables
from benchmarks.made_by import made_by

SOURCE = flags.DEFINE_string("source", None, "Faces, as data.source.", required=True)
WORKDIR = flags.DEFINE_multi_string("workdir", [], "Run; repeat for an ensemble. Default: --weights.")
WEIGHTS = flags.DEFINE_string("weights", None, "Weights of the package.")
FACES = flags.DEFINE_integer("faces", 400, "Number of faces.")
SEED = flags.DEFINE_integer("seed", 0, "Of the choice of faces.")


def framed(image):
    """Return the picture with a margin of its mean colour, as a photo has around a face."""
    height, width = image.shape[:2]
    out = np.empty((2 * height, 2 * width, 3), np.uint8)
    out[:] = image.mean((0, 1)).astype(np.uint8)
    out[height // 2 : height // 2 + height, width // 2 : width // 2 + width] = image
    return out


def turned(image, degrees):
    fill = tuple(int(value) for value in image.mean((0, 1)))
    return np.array(Image.fromarray(framed(image)).rotate(degrees, Image.Resampling.BICUBIC, fillcolor=fill))


def scaled(image, side):
    return framed(np.array(Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS)))


def cut(image):
    """Return the picture without its right third."""
    return np.ascontiguousarray(image[:, : image.shape[1] * 2 // 3])


def grey(image):
    return np.array(Image.fromarray(image).convert("L").convert("RGB"))


CHANGES = {  # warning: {column: changed picture}; the first is the hit, the others are false alarms
    "small_face": {"side 30": lambda x: scaled(x, 30), "side 60": lambda x: scaled(x, 60), "as it is": np.array},
    "tilted": {"turned by 45": lambda x: turned(x, 45), "by 15": lambda x: turned(x, 15), "as it is": np.array},
    "cut_off": {"a third cut off": cut, "with a margin": framed, "as it is": np.array},
    "looks_grey": {"grey": grey, "as it is": np.array},
    "channels_swapped?": {"BGR": lambda x: np.ascontiguousarray(x[..., ::-1]), "as it is": np.array},
    "outside_training_range": {"a sixth as bright": lambda x: x // 6, "as it is": np.array},
}


def main(_):
    ynnpack.avoid()  # as the commands do
    logging.set_verbosity(logging.WARNING)
    rng = np.random.default_rng(SEED.value)
    items = [item for item in sources.read(SOURCE.value) if item.data]
    chosen = [items[i] for i in rng.choice(len(items), min(FACES.value, len(items)), replace=False)]
    pairs = [(item.label, decode(item.data)) for item in chosen]
    coloured = [image for _, image in pairs if chroma(image) >= GREY_CHROMA]
    command = {"workdir": WORKDIR.value, "weights": WEIGHTS.value}
    predictor = Predictor(*WORKDIR.value, **({"weights": WEIGHTS.value} if not WORKDIR.value else {}))

    def largest_faces(images):
        """Return the largest face of each picture in which one is found."""
        faces_of = [picture.faces for picture in predictor.pictures(images) if picture.faces]
        return [max(faces, key=lambda face: face.box[2] * face.box[3]) for faces in faces_of]

    cache, rows = {}, {}
    for warning, changes in CHANGES.items():
        rows[warning] = {}
        for column, change in changes.items():
            if column not in cache:
                cache[column] = largest_faces([change(image) for image in coloured])
            faces = cache[column]
            rows[warning][column] = {"detected": len(faces), "raised": sum(warning in face.flags for face in faces)}
    # the flag of children needs no change: the labels know them
    predicted = predictor.pictures([image for _, image in pairs])
    labelled = [(label, picture.faces) for (label, _), picture in zip(pairs, predicted, strict=True)]
    rows["child"] = {
        name: {
            "detected": len(
                group := [faces for label, faces in labelled if faces and first <= label.age_first <= last]
            ),
            "raised": sum(any("child" in face.flags for face in faces) for faces in group),
        }
        for name, first, last in (("0-9", 0, 0), ("10-19", 1, 1), ("20 and above", 2, 11))
    }
    result = {
        "rows": rows,
        "pictures": len(coloured),
        "grey_left_out": len(pairs) - len(coloured),
        "seed": SEED.value,
        "opencv": cv2.__version__,
        "weights": {member.name: member.digest for member in predictor.members},
        "made_by": made_by("face_flags", SOURCE.value, **command, faces=FACES.value, seed=SEED.value),
    }
    result_files.write(result_files.RESULTS / "face_flags.json", result)
    print(tables.face_flags(result))


if __name__ == "__main__":
    app.run(lambda argv: guard(functools.partial(main, argv)))
