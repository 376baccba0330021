"""Make chips of two alignments, and compare nets trained on either or both, each tested on either.

python -m benchmarks.alignment_matrix make --source=crop_part1.tar --out=alignment
python -m benchmarks.alignment_matrix table reports/aligned_test reports/turned_test

After Lapuschkin et al. 2017, who train on landmark-aligned Adience faces, on faces that are only upright, and on both.
The chips of a source count as aligned. A turned one is rotated by up to 15 degrees, scaled by 0.9 to 1.1 and shifted
by up to 5 % of its side, edges repeated, as the hash of its pixels says. `make` splits the source by the rule of
`data.split_seed` and writes aligned_train, turned_train, aligned_test and turned_test, the same images in each pair;
exclude.csv has the turned copies of what a run on aligned_train validates with or tests on. docs/baselines.md has the
trainings and evaluations in between. `table` prints the results.json of one evaluation per test set, a row a net.
"""

import argparse
import json
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from agegender_jax import config
from agegender_jax.cli.exits import guard
from agegender_jax.data.decoding import decode
from agegender_jax.errors import DataError
from agegender_jax.evaluation.members import ENSEMBLE
from agegender_jax.labels import GENDERS
from agegender_jax.report import formatting
from agegender_jax.run.dataset import Dataset, load_dataset
from agegender_jax.run.pictures.align_pictures import png
from agegender_jax.run.workdir import write_csv
from benchmarks.tables import markdown, with_interval

ROTATION, SCALE, SHIFT = 15.0, 0.1, 0.05  # degrees; of the side
SCORES = {"age_accuracy": "age", "gender_accuracy": "gender", "aabd": "AABD"}


def turn(image: np.ndarray, digest: str) -> np.ndarray:
    """Return a picture, uint8 RGB [H, W, 3], rotated, scaled and shifted as hexadecimal digits say."""
    rng = np.random.default_rng(int(digest, 16))
    angle, scale = np.radians(rng.uniform(-ROTATION, ROTATION)), rng.uniform(1 - SCALE, 1 + SCALE)
    size = np.array(image.shape[1::-1])
    shift = rng.uniform(-SHIFT, SHIFT, 2) * size
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    matrix = np.array([[cosine, sine], [-sine, cosine]])  # from the result to the picture
    border = int(size.max() // 2)
    offset = size / 2 + border - matrix @ (size / 2 + shift)
    padded = np.pad(image, ((border, border), (border, border), (0, 0)), mode="edge")
    values = (*matrix[0], offset[0], *matrix[1], offset[1])
    transform = Image.Transform.AFFINE
    return np.array(Image.fromarray(padded).transform(tuple(size), transform, values, Image.Resampling.BICUBIC))


def make(source: str, out: pathlib.Path, split_seed: int = 0) -> None:
    """Write the four folders of chips and exclude.csv to `out`.

    Raises:
      DataError: two images have the same name.
    """
    dataset = _dataset(source, split_seed)
    faces = dataset.prepared
    names = [file.rpartition("/")[2] for file in faces.file]
    if len(set(names)) < len(names):
        raise DataError("two images of the source have the same name", source, "rename one of them")
    for split in ("train", "test"):
        rows = np.flatnonzero((dataset.assignment == "test") == (split == "test"))
        for alignment, suffix in (("aligned", ""), ("turned", ".png")):
            folder = out / f"{alignment}_{split}"
            folder.mkdir(parents=True)
            for i in rows:
                encoded = faces.encoded(i)
                turned = encoded if alignment == "aligned" else png(turn(decode(encoded), faces.content[i]))
                (folder / f"{names[i]}{suffix}").write_bytes(turned)
            if (faces.age_years[rows] < 0).any():
                labels = [
                    (
                        f"{names[i]}{suffix}",
                        faces.age_text[i],
                        GENDERS[faces.gender[i]].capitalize(),
                        faces.race_text[i],
                    )
                    for i in rows
                ]
                write_csv(folder / "labels.csv", ("file", "age", "gender", "race"), labels)
    own = _dataset(str(out / "aligned_train"), split_seed)
    held_out = own.prepared.file[own.assignment != "train"]
    write_csv(out / "exclude.csv", ("file",), [(f"turned_train/{file}.png",) for file in held_out])


def _dataset(source: str, split_seed: int) -> Dataset:
    fields = config.default()
    fields.data.update(source=source, split_seed=split_seed)
    return load_dataset(fields)


def table(reports: Sequence[dict]) -> str:
    """Return a row for each net: its scores on each test set, and paired differences to the first net there.

    Args:
      reports: values of results.json, of the same nets on several test sets.
    """
    head = ["trained on"]
    for report in reports:
        head += [f"{report['source']['name']}: {text}" for text in SCORES.values()]
    lines = [head, ["---"] * len(head)]
    first, *others = [model["name"] for model in reports[0]["models"] if model["name"] != ENSEMBLE]
    models = [{model["name"]: model for model in report["models"]} for report in reports]
    lines += [
        [name, *(with_interval(by_name[name], score) for by_name in models for score in SCORES)]
        for name in (first, *others)
    ]
    for name in others:
        cells = [_difference(report["paired"], name, first, score) for report in reports for score in SCORES]
        lines.append([f"{name} minus {first}", *cells])
    return markdown(lines)


def _difference(pairs: Sequence[dict], a: str, b: str, score: str) -> str:
    """Return the score of a minus that of b with its interval, whichever comes first in their pair."""
    pair = next(pair for pair in pairs if {pair["a"], pair["b"]} == {a, b})
    sign = 1 if pair["a"] == a else -1
    ends = sorted(sign * end for end in pair[score]["ci95"])
    return formatting.difference({score: {"difference": sign * pair[score]["difference"], "ci95": ends}}, score)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    chips = commands.add_parser("make", help="write the chips")
    chips.add_argument("--source", required=True, help="aligned chips, as data.source")
    chips.add_argument("--out", required=True, type=pathlib.Path, help="a new folder")
    chips.add_argument("--split_seed", type=int, default=0)
    tables = commands.add_parser("table", help="print the results")
    tables.add_argument("reports", nargs="+", type=pathlib.Path, help="--out of launch.evaluate, one per test set")
    args = parser.parse_args()
    if args.command == "make":
        make(args.source, args.out, args.split_seed)
    else:
        print(table([json.loads((path / "results.json").read_text()) for path in args.reports]))


if __name__ == "__main__":
    guard(main)
