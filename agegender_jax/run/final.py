"""The end of a run: temperatures fitted on val, the test split scored by the best checkpoint, the model card."""

from agegender_jax.run import calibration, facts, leaks, outcome, processes
from agegender_jax.run.inputs import Faces
from agegender_jax.run.progress import Progress
from agegender_jax.run.workdir import Workdir


def test(place: Workdir, faces: Faces, init_from: str, draw: bool, progress: Progress) -> None:
    """Scores a run's best checkpoint; process 0 alone reads and writes the workdir.

    Args:
      init_from: the run or the weights that training began with, whose images count as seen.
      draw: figures too.
    """
    told, first = {"name": place.path.name, "progress": progress}, processes.is_first()
    best = outcome.member(place, "best", faces, "val", calibrate=False, **told)
    with processes.together():
        if first:
            calibration.write(place, calibration.fit(best, faces))
    best = outcome.member(place, "best", faces, "test", **told)
    with processes.together():
        if first:
            leaked = len(leaks.find(place, faces, "test"))
            if leaked:
                progress.warn(
                    f"{leaked} test images were trained or validated on by {init_from}: the results say allow_leak; "
                    "the same data.source and data.split_seed as there, or other data, do not leak"
                )
            outcome.write(place.path, [best], faces, "test", progress, allow_leak=leaked > 0, draw=draw)
            facts.write_card(place)
