"""face-api.js (`@vladmandic/face-api`) on the images of a split, scored like the nets of this library.

npm install --prefix runs/face_api @vladmandic/face-api
python -m benchmarks.face_api --source=crop_part1.tar --out=runs/face_api/test.json [--split=test]

This needs Node. The package includes the weights of its AgeGenderNet, which was trained on UTKFace and seven other data
sets, perhaps on the images scored here, so its row may be affected by leakage. It predicts an age in years, whose
bucket is scored, and a gender. Each image is passed decoded, without face detection.
"""

import argparse
import json
import pathlib
import struct
import subprocess

import numpy as np

from agegender_jax import config as config_lib
from agegender_jax import metrics
from agegender_jax.cli.exits import guard
from agegender_jax.labels import GENDERS, NUM_AGE_BUCKETS, age_bucket
from agegender_jax.run import dataset
from benchmarks import result_files

PROGRAM = pathlib.Path(__file__).with_name("face_api.mjs")
PACKAGE = "node_modules/@vladmandic/face-api"


def predict(images, package, *options):
    """Yield a dict with `age`, `gender` and `genderProbability` for each image, uint8 RGB [H, W, 3].

    Args:
      package: folder of @vladmandic/face-api.
      options: the backend and what the images are, see face_api.mjs.
    """
    with subprocess.Popen(
        ["node", str(PROGRAM), str(package), *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        for image in images:
            process.stdin.write(struct.pack("<II", *image.shape[:2]) + np.ascontiguousarray(image).tobytes())
            process.stdin.flush()
            line = process.stdout.readline()
            while line and not line.startswith(b'{"'):  # its greeting
                line = process.stdout.readline()
            if not line:
                raise RuntimeError("face-api.js ended early; its own message is above")
            yield json.loads(line)
        process.stdin.close()


def probabilities(rows):
    """Return one-hot age buckets [N, A] and gender probabilities [N, 2] of the predictions."""
    buckets = [min(max(age_bucket(int(row["age"])), 0), NUM_AGE_BUCKETS - 1) for row in rows]
    of_label = np.array([row["genderProbability"] for row in rows])
    female = np.array([row["gender"] == GENDERS[1] for row in rows])
    p_female = np.where(female, of_label, 1 - of_label)
    return np.eye(NUM_AGE_BUCKETS)[buckets], np.stack([1 - p_female, p_female], 1)


def score(rows, age, gender, age_years):
    """Return the scores with 95 % intervals over images, and the mean absolute error in years where they are known."""
    results = metrics.outcomes(*probabilities(rows), age, gender)
    result = {
        name: {"value": float(values.mean()), "ci95": metrics.bootstrap(values)} for name, values in results.items()
    }
    known = age_years >= 0
    errors = np.abs(np.array([row["age"] for row in rows]) - age_years)[known]
    return {"n": len(rows), "scores": result, "mae_years": float(errors.mean()) if known.any() else None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--source", required=True, help="the images, as data.source")
    parser.add_argument("--split", default="test", choices=["train", "val", "test", "all"])
    parser.add_argument("--package", type=pathlib.Path, default=pathlib.Path("runs/face_api") / PACKAGE)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="results, JSON")
    args = parser.parse_args()
    config = config_lib.default()
    config.data.source = args.source
    faces = dataset.load_dataset(config)
    where = faces.indices(args.split)
    rows = list(predict((faces.picture(i) for i in where), args.package))
    version = json.loads((args.package / "package.json").read_text())["version"]
    results = {"package": f"@vladmandic/face-api {version}", "split": args.split}
    results |= {"source": faces.prepared.name, "fingerprint": faces.prepared.fingerprint}
    results |= score(rows, *faces.targets(args.split), faces.prepared.age_years[where])
    args.out.parent.mkdir(parents=True, exist_ok=True)
    result_files.write(args.out, results)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    guard(main)
