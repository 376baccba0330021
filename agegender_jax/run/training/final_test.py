"""The end of a run: fit temperatures on val, score the best checkpoint on test, write the model card."""

from agegender_jax.run import leaks, photo_calibration
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.host import processes
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.scoring.split_predictions import predict_member
from agegender_jax.run.scoring.write_results import write_results
from agegender_jax.run.workdir import Workdir, calibration, training_summary


def warn_of_trained_val(run: Workdir, dataset: Dataset, trained_from: str, progress: Progress) -> None:
    """Warn if val has images that the nets were trained on that a run starts or learns from."""
    if count := len(leaks.find_trained_val(run, dataset)):
        progress.warn(
            f"{count} of {len(dataset.indices('val'))} images of val, or near-duplicates of them, were trained on by "
            f"{trained_from}: the scores on val will be too good, and so will temperatures and thresholds; train with "
            "the data.splits of that run"
        )


def test(run: Workdir, dataset: Dataset, trained_from: str, draw: bool, progress: Progress) -> None:
    """Calibrate a run's best checkpoint on val and score it on test; only process 0 reads and writes the workdir.

    Args:
      trained_from: names of the nets that training started or learned from; images that they have seen count as seen.
      draw: draw figures.
    """
    options, is_main = {"name": run.path.name, "progress": progress}, processes.is_main()
    best = predict_member(run, "best", dataset, "val", calibrate=False, **options)
    with processes.sync_errors():
        if is_main:
            fitted = calibration.fit(best, dataset, len(leaks.find_trained_val(run, dataset)))
            calibration.write(run, fitted)
            calibrated = calibration.apply(fitted, best, True, progress.note)
            image_size = (run.read_config() or {})["data"]["image_size"]
            if thresholds := photo_calibration.fit([calibrated], dataset, image_size):
                photo_calibration.write(run, [calibrated], thresholds, [str(run.path)])
    best = predict_member(run, "best", dataset, "test", **options)
    with processes.sync_errors():
        if is_main:
            leaked = len(leaks.find(run, dataset, "test"))
            if leaked:
                progress.warn(
                    f"{leaked} test images were trained or validated on by {trained_from or 'this run'}: the results "
                    "say allow_leak; "
                    "the same data.source and data.split_seed or data.splits as there, or other data, do not leak"
                )
            write_results(run.path, [best], dataset, "test", progress, allow_leak=leaked > 0, draw=draw)
            training_summary.write_card(run)
