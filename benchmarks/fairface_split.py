"""Write the split of FairFace that the nets of the package were trained with, as a CSV for data.splits.

python -m benchmarks.fairface_split --source=aligned/fairface_10k,aligned/fairface_10k_25k --out=fairface_split.csv

fairface_held_out.txt lists val and test: N is train/N.jpg of FairFace, found as N.png, for example, in any folder of
the source. All other images are for training, except near-duplicates of val or test, which are left out. A split by
content would not do here: the last bits of an aligned chip's pixels, and with them the images in val and test, depend
on the version of the alignment and on the processor's vector instructions.
"""

import argparse
import collections
import csv
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from agegender_jax import config as config_lib
from agegender_jax.cli.exits import guard
from agegender_jax.run.dataset import load_dataset
from agegender_jax.run.host.progress import Progress

HELD_OUT = pathlib.Path(__file__).with_name("fairface_held_out.txt")
STRONGEST = ("test", "val", "train")


def held_out() -> dict[int, str]:
    """Return the split of each picture in val or test, by its number."""
    split, table = "", {}
    for word in HELD_OUT.read_text().split():
        if word.endswith(":"):
            split = word.removesuffix(":")
        else:
            table[int(word)] = split
    return table


def assign(files: Sequence[str], group: np.ndarray, table: Mapping[int, str]) -> list[str]:
    """Return the split of each file, "" for those that are left out.

    Args:
      files: paths whose stems are numbers.
      group: int [N], of near-duplicates. Only the files of its strongest split stay: test before val before train.
    """
    splits = [table.get(int(pathlib.PurePath(file).stem), "train") for file in files]
    strongest: dict[int, str] = collections.defaultdict(lambda: STRONGEST[-1])
    for number, split in zip(group.tolist(), splits, strict=True):
        strongest[number] = min(strongest[number], split, key=STRONGEST.index)
    return [split if split == strongest[number] else "" for number, split in zip(group.tolist(), splits, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    config = config_lib.default()
    config.data.source = options.source
    with Progress() as progress:
        prepared = load_dataset(config, progress.prepare).prepared
    files = prepared.file.tolist()
    if other := [file for file in files if not re.fullmatch(r"\d+", pathlib.PurePath(file).stem)]:
        parser.error(f"--source: {other[0]} is not named by its number in FairFace, as train/N.jpg is")
    splits = assign(files, prepared.group, held_out())
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with open(options.out, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "split"), *zip(files, splits, strict=True)])
    counts = collections.Counter(splits)
    missing = len(held_out().keys() - {int(pathlib.PurePath(file).stem) for file in files})
    if missing:
        print(f"{missing} of the {len(held_out()):,} pictures of val and test are not in the source")
    print({name or "left out": counts[name] for name in ("train", "val", "test", "")})


if __name__ == "__main__":
    guard(main)
