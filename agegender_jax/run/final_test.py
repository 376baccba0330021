"""The end of a run: temperatures fitted on val, the test split scored by the best checkpoint, the model card."""

from agegender_jax.run import leaks
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.host import processes
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.predict_members import predict_member
from agegender_jax.run.workdir import Workdir, calibration, summary
from agegender_jax.run.write_results import write_results


def test(place: Workdir, faces: Dataset, init_from: str, draw: bool, progress: Progress) -> None:
    """Scores a run's best checkpoint; process 0 alone reads and writes the workdir.

    Args:
      init_from: the run or the weights that training began with, whose images count as seen.
      draw: figures too.
    """
    options, is_main = {"name": place.path.name, "progress": progress}, processes.is_main()
    best = predict_member(place, "best", faces, "val", calibrate=False, **options)
    with processes.sync_errors():
        if is_main:
            calibration.write(place, calibration.fit(best, faces))
    best = predict_member(place, "best", faces, "test", **options)
    with processes.sync_errors():
        if is_main:
            leaked = len(leaks.find(place, faces, "test"))
            if leaked:
                progress.warn(
                    f"{leaked} test images were trained or validated on by {init_from}: the results say allow_leak; "
                    "the same data.source and data.split_seed as there, or other data, do not leak"
                )
            write_results(place.path, [best], faces, "test", progress, allow_leak=leaked > 0, draw=draw)
            summary.write_card(place)
