"""Predictions for pictures by actors in a Ray cluster, each of which has the nets on a device."""

import contextlib
import json
import logging
import queue
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from agegender_jax import files
from agegender_jax.errors import DataError
from agegender_jax.run.host.signals import StopFlag
from agegender_jax.run.pictures import prediction_rows
from agegender_jax.run.pictures.picture_files import PictureFile, sources

PART = 64  # pictures of a part at least
MOST = 1000  # parts of a call at most
POLL = 0.2  # seconds between looks at the signals
_RETRIES = 3  # of a part whose actor died: a picture that kills it each time must end the work


class Actor:
    """Predict for parts; runs in a process of the cluster.

    Args:
      parts: pictures of each part.
      runs, options: arguments of `Predictor`.
      boxes: of faces by name of the picture, see `Predictor`.
    """

    def __init__(
        self,
        parts: Sequence[Sequence[PictureFile]],
        runs: Sequence[str],
        options: dict[str, Any],
        boxes: dict[str, Any] | None,
    ):
        from agegender_jax.photos import detector
        from agegender_jax.prediction.predictor import Predictor
        from agegender_jax.run.host import compile_cache

        compile_cache.turn_on()
        if options["detector"] != "none" or boxes is not None:
            detector.use_one_thread()
        self.parts, self.boxes, self.over = parts, boxes, options["over"]
        self.predictor = Predictor(*runs, **options)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Return the rows of the pictures in a batch of one part, as JSON."""
        named = self.parts[int(batch["part"][0])]
        predicted = self.predictor.pictures(sources(named, self.boxes))
        rows = [row for picture in predicted for row in prediction_rows.rows(picture, self.predictor.name, self.over)]
        return {"count": [len(named)], "rows": [files.to_json(rows)]}


def predict(
    pictures: Sequence[PictureFile], arguments: tuple[Any, ...], workers: int, stop: StopFlag
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Yield the number of pictures and the rows of each part, in order.

    A part whose actor died is computed again by another.

    Args:
      arguments: of `Actor` after the parts.
      workers: number of actors; 0 for one per GPU of the cluster, or else one per machine.
      stop: checked while waiting.

    Raises:
      DataError: a part failed again and again.
      Stopped: a signal has arrived.
    """
    size = max(PART, -(-len(pictures) // MOST))
    parts = [pictures[i : i + size] for i in range(0, len(pictures), size)]
    ready: queue.Queue = queue.Queue()
    if parts:
        threading.Thread(target=_run, args=(parts, arguments, workers, ready), daemon=True).start()
    for _ in parts:
        item = _next(ready, stop)
        if isinstance(item, BaseException):
            what = (str(item) or type(item).__name__).strip().splitlines()[-1][:200]
            raise DataError(
                f"the cluster failed: {what}", "--engine=ray", "the same command resumes; --debug shows the stack trace"
            ) from item
        yield item["count"], json.loads(item["rows"])


def _next(ready: queue.Queue, stop: StopFlag) -> Any:
    while True:
        stop.check("pictures")
        with contextlib.suppress(queue.Empty):
            return ready.get(timeout=POLL)


def _run(parts: list[Sequence[PictureFile]], arguments: tuple[Any, ...], workers: int, ready: queue.Queue) -> None:
    """Put each part's result, or the exception that ended the work, into `ready`."""
    try:
        import ray.data

        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # an error is raised; a stop is none
        gpus = int(ray.cluster_resources().get("GPU", 0))
        count = workers or gpus or sum(node["Alive"] for node in ray.nodes())
        items = ray.data.from_items([{"part": i} for i in range(len(parts))], override_num_blocks=len(parts))
        with warnings.catch_warnings(action="ignore"):  # max_task_retries has no successor yet
            predicted = items.map_batches(
                Actor,
                fn_constructor_args=(parts, *arguments),
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=min(count, len(parts)), max_tasks_in_flight_per_actor=2),
                num_cpus=1,
                num_gpus=1 if gpus else 0,
                max_task_retries=_RETRIES,
            )
        for row in predicted.iter_rows():
            ready.put(row)
    except BaseException as error:
        ready.put(error)
