"""The ablation command: train the variants of a config over seeds, and compare them with intervals.

The folder has `<field=value>/seed<k>/`, each an ordinary run with its best checkpoint only, and ablation.json:
  schema, split, n, source, config (of the base, without the seed), vary, seeds, ensemble;
  made_by: command, versions, devices, git revision;
  runs: variant, seed, workdir, step of the best checkpoint, seconds of its training steps, parameters, collapsed heads,
    and allow_leak, whether what it started from has seen test images;
  variants, differences: see `comparison.results`;
  caution: what the intervals cover.
"""

import copy
import itertools
import json
import time
from collections.abc import Sequence

from ml_collections import ConfigDict

from agegender_jax import config as config_lib
from agegender_jax import files
from agegender_jax.data import split_exceptions
from agegender_jax.data.resolve import check_outside
from agegender_jax.errors import ConfigError, DataError, Stopped
from agegender_jax.run import checks, dataset, train
from agegender_jax.run.ablate import comparison, variants
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.host.signals import StopFlag, stop_flag
from agegender_jax.run.workdir import Workdir, finished_runs, provenance, write_json

SCHEMA = 1
FILE = "ablation.json"


def ablate(
    config: ConfigDict, vary: Sequence[str], seeds: Sequence[int], workdir: str, command: list[str], ensemble: bool
) -> dict:
    """Train every variant with every seed, or resume the same command; return the content of ablation.json.

    Args:
      vary: lines "FIELD=a,b,c", see `variants.parse`.
      seeds: seeds of the runs. Runs that are already in the folder are not trained again.
      workdir: folder of the ablation.
      ensemble: also compare the ensemble of all variants (within each seed) with each of them.

    Raises:
      UserError, Stopped: as `train.fit`.
    """
    all_variants = variants.parse(config, vary)
    _check_seeds(seeds)
    check_outside(split_exceptions.join(config.data.source, config.data.train_on), Workdir(workdir).path, "--workdir")
    with Workdir(workdir) as folder, stop_flag() as stop:
        progress = Progress(stop=stop)
        definition = _definition(all_variants, seeds, ensemble)
        _check_same(folder, definition)
        with progress:
            data_of = _datasets(all_variants, progress)
        variants.check(all_variants, data_of)
        data = data_of[all_variants[0].name]
        if not len(data.indices("test")):
            raise DataError("the test split is empty", data.prepared.name, "give more images")
        all_configs = {variant.name: variant.config for variant in all_variants}
        runs = {
            (variant.name, seed): Workdir(folder.path / variant.folder / f"seed{seed}")
            for seed, variant in itertools.product(seeds, all_variants)
        }
        for (name, seed), run in runs.items():
            checks.same_data(run, data_of[name])
            checks.same_recipe(run, _with_seed(all_configs[name], seed))
        if not (folder.path / FILE).exists():
            write_json(folder.path / FILE, definition | {"runs": [], "variants": [], "differences": []})
        _train(all_configs, runs, command, progress, stop)
        predictions = [
            [finished_runs.predictions(runs[variant.name, seed], data) for seed in seeds] for variant in all_variants
        ]
        ablation = definition | {
            "n": len(data.indices("test")),
            "source": {"name": data.prepared.name, "fingerprint": data.prepared.fingerprint},
            "runs": [
                _row(variant, seed, runs[variant.name, seed], folder)
                for seed, variant in itertools.product(seeds, all_variants)
            ],
            **comparison.results(all_variants, predictions, data, ensemble),
            "caution": comparison.caution(len(seeds)),
            "made_by": provenance.made_by(command),
        }
        write_json(folder.path / FILE, ablation)
    with progress:
        comparison.show(ablation, progress)
        progress.note(f"all numbers: {folder.path / FILE}")
    return ablation


def _datasets(all_variants: Sequence[variants.Variant], progress: Progress) -> dict[str, dataset.Dataset]:
    """Return the dataset of each variant; their train splits differ if `data.exclude` varies."""
    by_exclude: dict[str, dataset.Dataset] = {}
    for variant in all_variants:
        if variant.config.data.exclude not in by_exclude:
            by_exclude[variant.config.data.exclude] = dataset.load_dataset(variant.config, progress.prepare)
    return {variant.name: by_exclude[variant.config.data.exclude] for variant in all_variants}


def _train(
    configs: dict[str, ConfigDict],
    runs: dict[tuple[str, int], Workdir],
    command: list[str],
    progress: Progress,
    stop: StopFlag,
) -> None:
    """Train the runs that are not finished; stop between runs after a signal."""
    trained, started = 0, time.monotonic()
    todo = sum(not finished_runs.is_finished(run) for run in runs.values())
    for i, ((name, seed), run) in enumerate(runs.items(), 1):
        text = f"run {i} of {len(runs)}: {name}, seed {seed}"
        if finished_runs.is_finished(run):
            progress.note(f"{text}: finished before")
        else:
            minutes = (time.monotonic() - started) / 60 / max(trained, 1) * (todo - trained)
            progress.note(f"{text}; about {minutes:.0f} minutes left" if trained else text)
            train.fit(_with_seed(configs[name], seed), str(run.path), command)
            trained += 1
        finished_runs.lighten(run)
        if stop.code and i < len(runs):
            raise Stopped(stop.code, finished_runs.tested(run)["step"])


def _with_seed(config: ConfigDict, seed: int) -> ConfigDict:
    config = copy.deepcopy(config)
    config.seed = seed
    return config


def _row(variant: variants.Variant, seed: int, run: Workdir, folder: Workdir) -> dict:
    tested = finished_runs.tested(run)
    return {
        "variant": variant.name,
        "seed": seed,
        "workdir": run.path.relative_to(folder.path).as_posix(),
        "step": tested["step"],
        "seconds": finished_runs.seconds(run),
        "parameters": tested["parameters"],
        "collapsed": [head for head in tested["collapsed"] if head in variant.heads],
        "allow_leak": finished_runs.saw_test_images(run),
    }


def _definition(all_variants: Sequence[variants.Variant], seeds: Sequence[int], ensemble: bool) -> dict:
    """Return the fields of ablation.json that define an ablation."""
    base = config_lib.to_dict(all_variants[0].config)
    del base["seed"]
    vary = {field: [value] for field, value in all_variants[0].fields.items()}
    for field, value in (pair for variant in all_variants[1:] for pair in variant.fields.items()):
        vary[field].append(value)
    return {"schema": SCHEMA, "split": "test", "config": base, "vary": vary, "seeds": list(seeds), "ensemble": ensemble}


def _check_seeds(seeds: Sequence[int]) -> None:
    if not seeds:
        what = "there are no seeds"
    elif len(set(seeds)) < len(seeds):
        what = "a seed is named twice"
    elif bounds := next(filter(None, (config_lib.outside(seed, config_lib.RANGES["seed"]) for seed in seeds)), ""):
        what = f"a seed must be {bounds}"
    else:
        return
    raise ConfigError(what, f"--seeds={','.join(map(str, seeds))}", "for example --seeds=0,1,2")


def _check_same(folder: Workdir, definition: dict) -> None:
    """Raise ConfigError if the folder contains a run or another ablation."""
    path, fix = folder.path / FILE, "use another --workdir, or the command of that ablation"
    if folder.read_config() is not None:
        raise ConfigError("the workdir holds a run", str(folder.config), "use another --workdir")
    if not path.exists():
        return
    try:
        earlier = json.loads(path.read_bytes())
        any_seed = {"seed": None}
        differences = config_lib.resume_difference(earlier["config"] | any_seed, definition["config"] | any_seed)
        pairs = [(name, earlier["config"][name], definition["config"][name]) for name in ("num_epochs", "num_steps")]
        pairs.append(("--vary", earlier["vary"], definition["vary"]))
    except (OSError, *files.MALFORMED):
        raise ConfigError(f"{FILE} cannot be read", str(path), "restore the file, or use another --workdir") from None
    differences += [f"{name}: {old} -> {new}" for name, old, new in pairs if old != new]
    if differences:
        raise ConfigError(f"the workdir holds another ablation: {'; '.join(differences)}", str(path), fix)
