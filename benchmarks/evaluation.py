"""Measure the cost of metrics and predictions relative to the forward passes, and that of figures and report.

python -m benchmarks.evaluation [--images=10000]

ResNet-18 at 128 pixels with random weights and batches of 256, on synthetic faces that have been prepared. This
alternates between `ensemble.predict` on batches that are already on the device, and everything that launch.evaluate
does from prepared data to the text of results.json and predictions.csv, with temperatures. Both are compiled
beforehand. Figures and report are timed separately, without attention maps, which this net does not have; the time of
explanations is in their own file (`benchmarks.explanations`, "seconds"). Writes benchmarks/results/evaluation.json
unless --images is changed.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import time

import jax

from agegender_jax import config as config_lib
from agegender_jax import data, ensemble, evaluation, files, metrics, models, report
from agegender_jax.cli.exits import guard
from agegender_jax.run import dataset
from agegender_jax.run.host import ynnpack
from agegender_jax.run.scoring import write_results
from benchmarks import result_files
from benchmarks.input import REPEATS, ROOT, rounded, spread

IMAGES, SIZE, NET = 10_000, 128, "resnet18"


def measure(images: int, work: pathlib.Path) -> dict:
    """Return seconds of the forward passes, of everything, of the part after the passes, and of figures and report."""
    config = config_lib.default()
    config.model.name, config.data.image_size = NET, SIZE
    config.data.update(source=f"synthetic:{images}", cache_dir=str(work))
    faces = dataset.load_dataset(config)
    prepared, model = faces.prepared, models.from_config(config.model)
    variables = jax.jit(lambda key: model.init(key, data.normalize(prepared.images(SIZE)[:1]), train=False))(
        jax.random.key(0)
    )
    years = metrics.bucket_years(prepared.age, prepared.age_years)

    def batches():
        return faces.eval_batches("all", SIZE, config.eval.batch_size)

    on_device = [jax.device_put(batch.image) for batch in batches()]

    def bare() -> None:
        jax.block_until_ready([ensemble.predict(model, variables, image) for image in on_device])

    def whole() -> tuple[float, float]:
        probs = ensemble.predict_all(model, variables, batches(), devices=jax.devices())
        predicted = time.perf_counter()
        member = evaluation.Member(NET, "", 0, 0, probs, "probs", years).calibrate(1.1, 0.9)
        results = evaluation.results(
            [member],
            prepared.age,
            prepared.gender,
            prepared.race,
            age_years=prepared.age_years,
            age_text=prepared.age_text,
            split="all",
            source={"name": prepared.name, "fingerprint": prepared.fingerprint},
            allow_leak=False,
        )
        files.to_json(results)
        evaluation.predictions(
            prepared.file, prepared.age_text, prepared.age, prepared.gender, evaluation.ensemble_probs([member])
        )
        written = time.perf_counter()
        shown = write_results.figure_data([member], results, member.probs, faces, "all")
        report.page(results, report.draw(*shown, results, []), [])
        return written - predicted, time.perf_counter() - written

    bare(), whole()
    rows = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        bare()
        middle = time.perf_counter()
        after, drawing = whole()
        seconds = time.perf_counter() - middle - drawing
        bare_s = middle - start
        times = {"bare_s": bare_s, "whole_s": seconds, "after_s": after, "ratio": seconds / bare_s}
        rows.append(times | {"figures_s": drawing})
    return {"images": images, "net": NET, "image_size": SIZE, "batch_size": config.eval.batch_size, **spread(rows)}


def main() -> None:
    ynnpack.avoid()  # as the commands do
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--workdir", type=pathlib.Path, default=ROOT / "runs" / "evaluation")
    args = parser.parse_args()
    record = {
        "command": "python -m benchmarks.evaluation",
        "device": f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores, {platform.machine()}",
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
        **measure(args.images, args.workdir.resolve()),
        "measured": datetime.date.today().isoformat(),
        "load_average_15_min": rounded(os.getloadavg()[2]),
    }
    print(json.dumps(record, indent=1))
    if args.images == IMAGES:
        result_files.write(result_files.RESULTS / "evaluation.json", record)


if __name__ == "__main__":
    guard(main)
