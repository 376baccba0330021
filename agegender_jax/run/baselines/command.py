"""Train or fit every system, or resume, and write baselines.json and baselines.md with paired differences."""

import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from agegender_jax import config as config_lib
from agegender_jax import ensemble, extras, files, metrics, models
from agegender_jax.config import nearest
from agegender_jax.data.resolve import check_outside
from agegender_jax.errors import ConfigError, Stopped
from agegender_jax.models import sizes
from agegender_jax.run import dataset, train
from agegender_jax.run.baselines import page
from agegender_jax.run.baselines.systems import OTHER_SOURCE, REFERENCE, SYSTEMS, System, config_of
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.host.signals import stop_flag
from agegender_jax.run.workdir import Workdir, finished_runs, provenance, write_json
from agegender_jax.structs import Probs

FILE, PAGE = "baselines.json", "baselines.md"
ENSEMBLE = "ensemble"
OWN = ("ran56", "resnet18")  # members of the ensemble, this library's nets
SCORES = {"age_accuracy": "age", "gender_accuracy": "gender", "aabd": "age"}


def baselines(config: ConfigDict, workdir: str, only: Sequence[str], command: list[str]) -> dict:
    """Train the systems, one run a folder of `workdir`, and return the content of baselines.json.

    Args:
      config: the common fields; each system changes some.
      only: names of the systems; empty for all. What these start from, and the reference, are trained too.

    Raises:
      UserError, Stopped: as `train.fit`.
    """
    chosen = choose(only)
    if config.data.source.startswith("synthetic"):  # the source of the transfer is then the target itself
        chosen = [system for system in chosen if "drawn_faces" not in (system.name, system.starts_from)]
    configs = check(chosen, config, Workdir(workdir))
    with Workdir(workdir) as folder, stop_flag() as stop:
        check_same(folder, config)
        progress = Progress(stop=stop)
        with progress:
            own = dataset.load_dataset(config, progress.prepare)
        write_json(folder.path / "common.json", config.to_dict())
        for i, system in enumerate(chosen, 1):
            run = Workdir(folder.path / system.name)
            progress.note(f"system {i} of {len(chosen)}: {system.name}")
            if not run.is_tested():
                began = time.monotonic()
                train.fit(configs[system.name], str(run.path), command)
                progress.note(f"{system.name}: {time.monotonic() - began:.0f} s")
            if stop.code and i < len(chosen):
                raise Stopped(stop.code, finished_runs.tested(run)["step"])
        content = results(chosen, configs, folder, own) | {"made_by": provenance.made_by(command)}
        write_json(folder.path / FILE, content)
        files.replace(folder.path / PAGE, page.render(content))
    with progress:
        progress.note(f"table: {folder.path / PAGE}; all numbers: {folder.path / FILE}")
    return content


def choose(only: Sequence[str]) -> list[System]:
    """Return the named systems, those that they start from, and the reference, in the order of SYSTEMS."""
    by_name = {system.name: system for system in SYSTEMS}
    for name in only:
        if name not in by_name:
            raise ConfigError(f"unknown system {name!r}", "--only", nearest(name, by_name))
    wanted = set(only or by_name) | {REFERENCE}
    wanted |= {by_name[name].starts_from for name in wanted}
    return [system for system in SYSTEMS if system.name in wanted]


def check(chosen: Sequence[System], common: ConfigDict, folder: Workdir) -> dict[str, ConfigDict]:
    """Return the config of each system; raise ConfigError before anything is trained."""
    check_outside(common.data.source, folder.path, "--workdir")
    configs = {system.name: config_of(system, common, folder) for system in chosen}
    if any(config.model.name == "region_sift" for config in configs.values()):
        extras.check("baselines")
    for config in configs.values():
        config_lib.validate(config)
        models.from_config(config.model)
    return configs


def check_same(folder: Workdir, config: ConfigDict) -> None:
    """Raise ConfigError where the folder holds a run, or systems of other common fields."""
    if folder.read_config() is not None:
        raise ConfigError("the workdir holds a run", str(folder.config), "use another --workdir")
    path = folder.path / "common.json"
    if not path.exists():
        return
    earlier = json.loads(path.read_bytes())
    differences = config_lib.resume_difference(earlier, config.to_dict())
    if (earlier["num_epochs"], earlier["num_steps"]) != (config.num_epochs, config.num_steps):
        differences.append("num_epochs or num_steps")
    if differences:
        raise ConfigError(
            f"the workdir holds systems of another config: {'; '.join(differences)}", str(path), "use another --workdir"
        )


def results(chosen: Sequence[System], configs: dict[str, ConfigDict], folder: Workdir, own: Dataset) -> dict:
    """Return a row for each system of the own source: scores with intervals, sizes, times, paired differences."""
    rows, predictions = [], {}
    for system in chosen:
        if system.name in OTHER_SOURCE:
            continue
        run = Workdir(folder.path / system.name)
        predictions[system.name] = finished_runs.predictions(run, own)
        rows.append(_row(system, configs[system.name], run))
    if set(OWN) <= predictions.keys():
        predictions[ENSEMBLE] = ensemble.mean_probs([predictions[name] for name in OWN])
        rows.insert(len(OWN), _ensemble_row(predictions[ENSEMBLE], own))
    for against in (REFERENCE, "ran56", ENSEMBLE):
        if against in predictions:
            for row in rows:
                difference = _difference(predictions[row["name"]], predictions[against], row["heads"], own)
                row.setdefault("differences", {})[against] = difference
    return {
        "schema": 1,
        "split": "test",
        "n": len(own.indices("test")),
        "source": {"name": own.prepared.name, "fingerprint": own.prepared.fingerprint},
        "reference": REFERENCE,
        "systems": rows,
    }


def _row(system: System, config: ConfigDict, run: Workdir) -> dict[str, Any]:
    tested, fit = finished_runs.tested(run), run.path / "fit.json"
    seconds = json.loads(fit.read_bytes())["seconds"] if fit.exists() else finished_runs.seconds(run)
    heads = ["age"] * bool(config.loss.age_weight) + ["gender"] * bool(config.loss.gender_weight)
    _, multiply_adds = sizes.count(models.from_config(config.model), config.data.image_size)
    scores = {name: tested[name] if head in heads else None for name, head in SCORES.items()}
    scores["age_one_off"] = tested.get("adjacent_accuracy") if "age" in heads else None
    return {
        "name": system.name,
        "cites": system.cites,
        "differs": system.differs,
        "starts_from": system.starts_from or "scratch",
        "heads": heads,
        "image_size": config.data.image_size,
        "epochs": config.num_epochs,
        "parameters": tested["parameters"],
        "multiply_adds": multiply_adds,
        "seconds": seconds,
        **scores,
        "ci95": tested["ci95"],
    }


def _ensemble_row(probs: Probs, own: Dataset) -> dict[str, Any]:
    scores = ensemble.evaluate([probs], *own.targets("test"))
    text = f"mean of {' and '.join(OWN)}"
    return {"name": ENSEMBLE, "cites": "this library", "differs": text, "heads": ["age", "gender"], **scores}


def _difference(a: Probs, b: Probs, heads: Sequence[str], own: Dataset) -> dict[str, Any]:
    """Return `metrics.compare` of a's outcomes with b's on the test split for each score of the heads."""
    outcomes = [metrics.outcomes(np.asarray(p.age), np.asarray(p.gender), *own.targets("test")) for p in (a, b)]
    group = own.prepared.group[own.indices("test")]
    return {
        name: metrics.compare(outcomes[0][name][None], outcomes[1][name][None], group) if head in heads else None
        for name, head in SCORES.items()
    }
