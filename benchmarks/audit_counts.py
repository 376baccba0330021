"""Keep the numbers of an audit, without the names and labels of single images.

python -m benchmarks.audit_counts audits/crop_part1/audit.json audit_crop_part1    # benchmarks/results/<name>.json
"""

import argparse
import json
import pathlib

from agegender_jax.cli.exits import guard
from benchmarks import result_files

LISTS = {  # lists of single images, by section of audit.json; "" is the top level
    "": ("unusable", "left_out", "remarks"),
    "exact": ("groups",),
    "near": ("groups",),
    "images": ("odd_size", "tiny", "blank"),
}


def counts(audit: dict) -> dict:
    """Return `audit` with every list of images replaced by its length."""
    reduced = dict(audit)
    for section, names in LISTS.items():
        values = reduced if not section else dict(reduced[section])
        values.update({name: len(values[name]) for name in names})
        if section:
            reduced[section] = values
    return reduced


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=pathlib.Path, help="audit.json of launch.audit")
    parser.add_argument("name", help="file name below benchmarks/results, without .json")
    args = parser.parse_args()
    result_files.write(result_files.RESULTS / f"{args.name}.json", counts(json.loads(args.source.read_text())))


if __name__ == "__main__":
    guard(main)
