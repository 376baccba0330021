"""Prediction rate of the net of a finished run, in images per second."""

import json
import statistics
import time
from typing import Any

import jax
import numpy as np

from agegender_jax import ensemble, files, loading
from agegender_jax.run.workdir import Workdir, write_json

FILE = "speed.json"
BATCH, REPEATS = 64, 7


def measure(run: Workdir) -> None:
    """Write speed.json: the median of REPEATS predictions of one batch of BATCH random images, after compilation."""
    net, variables, config, _ = loading.load_checkpoint(run.path)
    variables = jax.device_put(variables)
    side = config["data"]["image_size"]
    images = jax.device_put(np.random.default_rng(0).integers(0, 256, (BATCH, side, side, 3), np.uint8))
    seconds = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        jax.block_until_ready(ensemble.predict(net, variables, images))
        seconds.append(time.perf_counter() - start)
    write_json(run.path / FILE, {"images_per_second": round(BATCH / statistics.median(seconds[1:]), 1), "batch": BATCH})


def read(run: Workdir) -> float | None:
    """Return the images per second in speed.json; None if it is missing or damaged."""
    try:
        content: Any = json.loads((run.path / FILE).read_bytes())
        return float(content["images_per_second"])
    except (OSError, *files.MALFORMED):
        return None
