"""List and read the steps in a folder of checkpoints."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from agegender_jax.checkpoint import manifest, tree
from agegender_jax.checkpoint.manifest import BadCheckpoint
from agegender_jax.errors import CheckpointError, system_error

STATE, CONFIG = "state", "config.json"


def step_folders(folder: Path) -> list[int]:
    """Return every step that has a folder, usable or not, newest first. Names are decimal and unpadded."""
    if not folder.is_dir():
        return []
    names = (path.name for path in folder.iterdir() if path.name.isdecimal() and path.is_dir())
    return sorted((int(name) for name in names if str(int(name)) == name), reverse=True)


def manifests(folder: Path, unreadable: Callable[[int, str], None] = lambda step, why: None) -> dict[int, dict]:
    """Return the manifest of each step, newest first; steps without a valid one are passed to `unreadable`."""
    records = {}
    for step in step_folders(folder):
        try:
            records[step] = manifest.read(folder / str(step))
        except BadCheckpoint as error:
            unreadable(step, str(error))
    return records


def best_of(records: dict[int, dict]) -> int | None:
    """Return the step with the lowest loss on val, the newest among equals; None if none was evaluated."""
    losses = manifest.losses(records)
    evaluated = [step for step, loss in losses.items() if loss < float("inf")]
    return min(evaluated, key=lambda step: (losses[step], -step), default=None)


def find(
    folder: Path, which: str | int, use: Callable[[Path], Any], passed_over: Callable[[int, str], None]
) -> tuple[Any, int] | None:
    """Return `use(folder of a step)` and the step, for the first usable step among those that `which` allows.

    Args:
      which: "latest" (then older ones in turn), "best" (then the next best), or one step only.
      passed_over: called with each step that cannot be used, and the reason.

    Returns:
      None if the folder has no step at all.

    Raises:
      CheckpointError: no step is usable (each is listed with its reason), or the first one has another schema.
    """
    try:
        candidates = _candidates(folder, which)
    except OSError as error:
        raise CheckpointError(
            f"the checkpoints cannot be listed: {error.strerror}", str(folder), "try again, or restore them from a copy"
        ) from error
    reasons = []
    for step in candidates:
        step_folder = folder / str(step)
        try:
            manifest.verify(step_folder)
            return use(step_folder), step
        except CheckpointError:
            raise
        except manifest.OtherSchema as error:
            raise CheckpointError(
                f"step {step} is not damaged, but in another format: {error}",
                str(step_folder),
                "use the version of agegender_jax that wrote it, or name another step",
            ) from error
        except Exception as error:  # Orbax reports damage by many types
            reasons.append(f"step {step}: {reason(error)}")
            passed_over(step, reason(error))
    if not candidates:
        return None
    raise CheckpointError(
        f"no usable checkpoint: {'; '.join(reasons)}",
        str(folder),
        "restore the files from a copy, or start again in another --workdir",
    )


def load_variables(
    folder: str | Path, which: str | int = "best", notice: Callable[[str], None] = lambda text: None
) -> tuple[dict, dict, int]:
    """Load the parts of a checkpoint that evaluation needs; the optimizer's state is not read.

    Returns:
      variables: "params" and "batch_stats" (their moving average if the run has one), on one device.
      config: the config of the run, as plain dicts.
      step: the step of the checkpoint.

    Raises:
      CheckpointError: no usable checkpoint.
    """
    folder = Path(folder).resolve()
    loaded = find(folder, which, _read_variables, lambda step, why: notice(f"checkpoint {step} is not used: {why}"))
    if loaded is None:
        raise CheckpointError("there is no checkpoint", str(folder), "train first, or name another --workdir")
    (variables, config), step = loaded
    return jax.device_put(variables, jax.local_devices()[0]), config, step


def check_match(variables: Any, template: Any, where: str | Path = "checkpoint") -> None:
    """Raise CheckpointError, with the first differing keys, unless shapes and dtypes match the template."""
    tree.check_match(variables, template, str(where))


def read_state(step_folder: Path, template: Any) -> Any:
    """Return the whole training state in a step's folder, as NumPy leaves in the structure of `template`."""
    stored = tree.shapes(step_folder / STATE)
    tree.check_match(_with_averaged_stats(stored), template, str(step_folder))
    return tree.from_dict(_with_averaged_stats(tree.read(step_folder / STATE, stored)), template)


def _read_variables(step_folder: Path) -> tuple[dict, dict]:
    stored = tree.shapes(step_folder / STATE)
    params = "ema" if "ema" in stored else "params"
    selected = {name: stored[name] for name in (params, "batch_stats") if name in stored}
    state = _with_averaged_stats(tree.read(step_folder / STATE, selected))
    variables = state.get("ema", state)
    config = json.loads((step_folder / CONFIG).read_text(encoding="utf-8"))
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}, config


def _with_averaged_stats(state: dict) -> dict:
    """Return a state whose `ema` includes BatchNorm statistics.

    Version 0.1.0 averaged the parameters only and evaluated them with the statistics of the current weights, so
    those stand in for the missing ones.
    """
    if "ema" not in state or "params" in state["ema"]:
        return state
    statistics = {"batch_stats": state["batch_stats"]} if "batch_stats" in state else {}
    return state | {"ema": {"params": state["ema"]} | statistics}


def _candidates(folder: Path, which: str | int) -> list[int]:
    steps = step_folders(folder)
    if which == "latest":
        return steps
    if which == "best":
        losses = manifest.losses(manifests(folder))
        return sorted(steps, key=lambda s: (losses.get(s, -1), -s))  # one without a manifest first, to be reported
    if str(which).isdecimal() and int(which) in steps:
        return [int(which)]
    raise CheckpointError(
        f"there is no checkpoint of step {which}",
        str(folder),
        f"use best, latest or one of {', '.join(map(str, reversed(steps))) or 'no steps'}",
    )


def reason(error: Exception) -> str:
    """Return one short line about an error."""
    if isinstance(error, BadCheckpoint):
        return str(error)
    if number := system_error(error):
        return os.strerror(number)
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__} {lines[0][:120]}".strip()
