"""Throughput of one config, as the line that `launch.benchmark` prints.

| key               | what                                                                                      |
|-------------------|-------------------------------------------------------------------------------------------|
| images_per_second | batch over the median step; input: all batches over all their time; fit: as the job logs  |
| step_ms           | of the steps, each waited for; input: of the batches; fit: means of the job's log lines   |
| compile_s         | train, evaluate: the first call less the median, so tracing is in it; fit: tracing,       |
|                   | lowering and compilation of the job                                                       |
| compile_cached    | whether anything came from JAX's compilation cache, which makes compile_s shorter         |
| peak_memory_mb    | MiB: on CPU the peak resident memory of this process, else the peak use of one device     |
| ratio_to_torch    | our images_per_second over PyTorch's; block_ratios: the smallest and largest of a block   |
| gflops            | of one step, 2 x multiply-adds x batch (see `launch.models`), in training 6 x;     |
|                   | null for input                                                                            |
| gflops_per_second | that over the median step                                                                 |
| of_step_alone     | fit: images_per_second over that of the step alone, with which it takes turns; the median |
|                   | of log lines, each against the blocks on both sides of it; block_ratios as above          |
| start_s           | fit: from the start of the process to the first step, without compilation                 |
| torch             | with --against: PyTorch's images_per_second, step_ms, compile_s and compile_cached, alike |
| note              | the message of a side that ran out of memory: its numbers are null, or from fewer steps   |
"""

import statistics
import time
from collections.abc import Callable

import jax
import numpy as np
from ml_collections import ConfigDict

from agegender_jax import config as config_lib
from agegender_jax import models
from agegender_jax.errors import ConfigError
from agegender_jax.run import checks
from agegender_jax.run.workdir import provenance
from benchmarks import feeding, steps, torch_process
from benchmarks.timing import WARMUP, Timed, peak_memory_mb

BLOCKS = 5  # in which two frameworks take turns
PAUSE = 0.3  # seconds at each turn: worker threads of the other side still spin for a while
STEPS = {"train": steps.train, "evaluate": steps.evaluate}


def measure(
    what: str, config: ConfigDict, count: int, *, against_torch: bool = False, torch_compile: bool | None = None
) -> dict:
    """Return one measurement of `config` over `count` steps, ready for JSON.

    | what     | measured                                                                                        |
    |----------|-------------------------------------------------------------------------------------------------|
    | train    | the step that training runs, over all devices, on one random batch on the devices              |
    | evaluate | `ensemble.predict` on random images on the device, `eval.batch_size` at a time                  |
    | input    | `data.source` through the pipeline and the copy to the devices, no step                         |
    | fit      | `train.fit` on `data.source`, alternating with the step alone in the same process               |

    Args:
      against_torch: takes turns with the same net in PyTorch; train and evaluate only.
      torch_compile: whether PyTorch's side uses torch.compile; None is on a GPU alone.

    Raises:
      UserError: as training would; or PyTorch or this config's counterpart in it is missing.
    """
    config_lib.validate(config)
    checks.own_config(config)
    if models.is_solved(config.model):
        raise ConfigError(
            f"{config.model.name} with the {config.model.head} head is solved, not trained in steps",
            "--config.model",
            "measure another net; launch.baselines measures solved systems",
        )
    if what == "input":
        seconds, more = feeding.measure_input(config, count)
        return line(what, config, seconds) | more
    if what == "fit":
        seconds, timed, more = feeding.measure_fit(config, count)
        return line(what, config, seconds, timed) | more
    if against_torch:
        return in_turns(what, config, count, torch_compile)
    timed = Timed(STEPS[what](config))
    return line(what, config, timed.run(count), timed)


def in_turns(what: str, config: ConfigDict, count: int, torch_compile: bool | None) -> dict:
    """Measure blocks of steps in JAX and PyTorch alternately, so that the load of the machine affects both.

    If one framework runs out of memory, the other's numbers are kept and `note` records it, at the top or under
    `torch`.
    """
    gpu = jax.default_backend() == "gpu"
    compiled = gpu if torch_compile is None else torch_compile
    blocks = [len(block) for block in np.array_split(range(count), min(BLOCKS, count))]
    ours, theirs, more, timed, first, early = [], [], {}, None, None, []
    with torch_process.TorchProcess(what, config, steps.parameters(config), compiled) as twin:
        try:
            first, *_ = twin.run(WARMUP)
            early = twin.run(blocks[0]) if gpu else []  # while the memory is all its own
        except torch_process.OutOfMemory as error:
            twin.info["note"] = error.what
        running = "note" not in twin.info
        try:
            timed = Timed(STEPS[what](config))
            for block in blocks:
                ours.append(_rested(timed.run, block))
                if running and (seconds := _their_block(twin, block, early)):
                    theirs.append(seconds)
                elif running:
                    theirs, running = [early], False
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or not (running or early):
                raise
            more["note"] = f"no more memory here: {str(error).splitlines()[0][:200]}"
            theirs = theirs or [early or twin.run(count)]
    measured = line(what, config, sum(ours, []), timed)
    reference = {"images_per_second": None, "step_ms": None, "compile_s": None}
    if seconds := sum(theirs, []):
        median = statistics.median(seconds)
        reference = {
            "images_per_second": measured["batch_size"] / median,
            "step_ms": milliseconds(seconds),
            "compile_s": max(0.0, first - median),
        }
    if ours and theirs:
        ratios = [statistics.median(b) / statistics.median(a) for a, b in zip(ours, theirs, strict=False)]
        more["ratio_to_torch"] = measured["images_per_second"] / reference["images_per_second"]
        more["block_ratios"] = {"min": min(ratios), "max": max(ratios)}
    return measured | more | {"torch": reference | twin.info}


def _their_block(twin: torch_process.TorchProcess, count: int, early: list[float]) -> list[float]:
    """Return seconds of PyTorch's steps; none, with a note, if they fail and PyTorch has been measured `early`."""
    try:
        return _rested(twin.run, count)
    except ConfigError as error:
        if not early:
            raise
        twin.info["note"] = f"measured before this process took memory; later {error.what}"
        return []


def _rested(run: Callable[[int], list[float]], count: int) -> list[float]:
    """Run after the other framework: the first step is not counted, because it allocates its memory again."""
    time.sleep(PAUSE)
    return run(count + 1)[1:]


def line(what: str, config: ConfigDict, seconds: list[float], timed: Timed | None = None) -> dict:
    """Return the measurement as launch.benchmark prints it; `seconds` of each step, empty if memory was too small."""
    batch_size = config.eval.batch_size if what == "evaluate" else config.batch_size
    median = statistics.median(seconds) if seconds else None
    gflops = None if what == "input" else steps.gflops("train" if what == "fit" else what, config)
    return {
        "what": what,
        "model": config.model.name,
        "image_size": config.data.image_size,
        "batch_size": batch_size,
        "dtype": config.model.dtype,
        "device": jax.default_backend(),
        "devices": 1 if what == "evaluate" else jax.device_count(),
        "images_per_second": median and batch_size / median,
        "step_ms": milliseconds(seconds) if seconds else None,
        "compile_s": median and (max(0.0, timed.first - median) if timed else 0.0),
        "compile_cached": timed.compilations.cached if timed else False,
        "peak_memory_mb": peak_memory_mb(),
        "ratio_to_torch": None,
        "width": config.model.width,
        "steps": len(seconds),
        "gflops": gflops,
        "gflops_per_second": gflops and median and gflops / median,
        "device_kind": jax.devices()[0].device_kind,
        "versions": provenance.versions(),
    }


def milliseconds(seconds: list[float]) -> dict[str, float]:
    return {"min": 1e3 * min(seconds), "median": 1e3 * statistics.median(seconds), "max": 1e3 * max(seconds)}
