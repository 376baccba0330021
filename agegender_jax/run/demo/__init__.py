"""The demo command: a local web page that predicts for photos."""

import time
from collections.abc import Sequence

from agegender_jax.photos import detector
from agegender_jax.prediction.predictor import Predictor
from agegender_jax.run.demo.photo_predictor import PhotoPredictor
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.host.signals import stop_flag

LOCAL = ("127.0.0.1", "localhost", "::1", "[::1]")


def demo(
    *,
    workdirs: Sequence[str],
    weights: str | None,
    weights_dir: str | None,
    checkpoint: str,
    methods: Sequence[str],
    score: float,
    coverage: float,
    host: str,
    port: int,
    max_mb: int,
) -> None:
    """Serve the page until a signal arrives.

    Args:
      workdirs: runs of an ensemble; the shipped weights if empty.
      methods: attributions, from explain.METHODS; those that a net does not support are left out.
      host, port: address to listen on.
      max_mb: largest file of a photo.
      The others: see `Predictor`.

    Raises:
      ConfigError, CheckpointError: an argument is wrong, a net cannot be loaded, or the address cannot be used.
    """
    with stop_flag() as stop, Progress(stop=stop) as progress:
        detector.model_bytes()  # its absence is reported before nets are loaded
        nets = {"weights": weights, "weights_dir": weights_dir, "checkpoint": checkpoint}
        predictor = Predictor(*workdirs, **nets, score=score, coverage=coverage, batch_size=1)
        photo_predictor = PhotoPredictor(predictor, methods)
        photo_predictor.compile(progress.prepare)
        from agegender_jax.run.demo import page  # imports gradio, which takes seconds

        with page.served(photo_predictor, host, port, max_mb) as address:
            if host not in LOCAL:
                progress.warn("every machine that can reach this address can use the demo")
            progress.note(f"the demo is at {address} (Ctrl-C ends it)")
            while stop.code is None:
                time.sleep(0.1)
