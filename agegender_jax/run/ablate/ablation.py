"""The ablation job: trains the variants of a config over seeds, and tells what each change is worth, with intervals.

The folder holds `<field=value>/seed<k>/`, each an ordinary run of which the best checkpoint alone is kept, and
ablation.json:
  schema, split, n, source, config (of the base, without the seed), vary, seeds, ensemble;
  made_by: command, versions, devices, git revision;
  runs: variant, seed, workdir, step of the best checkpoint, seconds of its training steps, parameters, collapsed heads;
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
    """Trains every variant with every seed, or goes on where the same command stopped; returns ablation.json's dict.

    Args:
      vary: lines "FIELD=a,b,c", see `variants.parse`.
      seeds: of the runs. With others in the same folder, those that are there are not trained again.
      workdir: folder of the ablation.
      ensemble: also compare the ensemble of all variants, of one seed each, with each of them.

    Raises:
      UserError, Stopped: as `train.fit`.
    """
    ways = variants.parse(config, vary)
    _check_seeds(seeds)
    check_outside(config.data.source, Workdir(workdir).path, "--workdir")
    with Workdir(workdir) as place, stop_flag() as stop:
        progress = Progress(stop=stop)
        told = _told(ways, seeds, ensemble)
        _check_same(place, told)
        with progress:
            faces = dataset.load_dataset(ways[0].config, progress.prepare)
        variants.check(ways, faces)
        if not len(faces.indices("test")):
            raise DataError("the test split is empty", faces.prepared.name, "give more images")
        runs = {
            (way.name, seed): Workdir(place.path / way.folder / f"seed{seed}")
            for seed, way in itertools.product(seeds, ways)
        }
        for run in runs.values():
            checks.same_data(run, faces)
        if not (place.path / FILE).exists():
            write_json(place.path / FILE, told | {"runs": [], "variants": [], "differences": []})
        _train({way.name: way.config for way in ways}, runs, command, progress, stop)
        answers = [[finished_runs.predictions(runs[way.name, seed], faces) for seed in seeds] for way in ways]
        found = told | {
            "n": len(faces.indices("test")),
            "source": {"name": faces.prepared.name, "fingerprint": faces.prepared.fingerprint},
            "runs": [_row(way, seed, runs[way.name, seed], place) for seed, way in itertools.product(seeds, ways)],
            **comparison.results(ways, answers, faces, ensemble),
            "caution": comparison.caution(len(seeds)),
            "made_by": provenance.made_by(command),
        }
        write_json(place.path / FILE, found)
    with progress:
        comparison.show(found, progress)
        progress.note(f"all numbers: {place.path / FILE}")
    return found


def _train(
    configs: dict[str, ConfigDict],
    runs: dict[tuple[str, int], Workdir],
    command: list[str],
    progress: Progress,
    stop: StopFlag,
) -> None:
    """Trains what is not trained; asks between the runs whether to stop."""
    trained, begun = 0, time.monotonic()
    todo = sum(not finished_runs.is_finished(run) for run in runs.values())
    for i, ((name, seed), run) in enumerate(runs.items(), 1):
        text = f"run {i} of {len(runs)}: {name}, seed {seed}"
        if finished_runs.is_finished(run):
            progress.note(f"{text}: finished before")
        else:
            minutes = (time.monotonic() - begun) / 60 / max(trained, 1) * (todo - trained)
            progress.note(f"{text}; about {minutes:.0f} minutes left" if trained else text)
            config = copy.deepcopy(configs[name])
            config.seed = seed
            train.fit(config, str(run.path), command)
            trained += 1
        finished_runs.lighten(run)
        if stop.code and i < len(runs):
            raise Stopped(stop.code, finished_runs.tested(run)["step"])


def _row(way: variants.Variant, seed: int, run: Workdir, place: Workdir) -> dict:
    tested = finished_runs.tested(run)
    return {
        "variant": way.name,
        "seed": seed,
        "workdir": run.path.relative_to(place.path).as_posix(),
        "step": tested["step"],
        "seconds": finished_runs.seconds(run),
        "parameters": tested["parameters"],
        "collapsed": [head for head in tested["collapsed"] if head in way.heads],
    }


def _told(ways: Sequence[variants.Variant], seeds: Sequence[int], ensemble: bool) -> dict:
    """What an ablation is, before anything is trained."""
    base = config_lib.to_dict(ways[0].config)
    del base["seed"]
    vary = {field: [value] for field, value in ways[0].fields.items()}
    for field, value in (pair for way in ways[1:] for pair in way.fields.items()):
        vary[field].append(value)
    return {"schema": SCHEMA, "split": "test", "config": base, "vary": vary, "seeds": list(seeds), "ensemble": ensemble}


def _check_seeds(seeds: Sequence[int]) -> None:
    low, high = config_lib.RANGES["seed"]
    if not seeds:
        what = "there are no seeds"
    elif len(set(seeds)) < len(seeds):
        what = "a seed stands twice"
    elif not all(low <= seed <= high for seed in seeds):
        what = f"a seed must be between {low} and {high}"
    else:
        return
    raise ConfigError(what, f"--seeds={','.join(map(str, seeds))}", "for example --seeds=0,1,2")


def _check_same(place: Workdir, told: dict) -> None:
    """Raises ConfigError where the folder holds a run or another ablation."""
    path, fix = place.path / FILE, "use another --workdir, or the command of that ablation"
    if place.read_config() is not None:
        raise ConfigError("the workdir holds a run", str(place.config), "use another --workdir")
    if not path.exists():
        return
    try:
        earlier = json.loads(path.read_bytes())
        any_seed = {"seed": None}
        differences = config_lib.resume_difference(earlier["config"] | any_seed, told["config"] | any_seed)
        pairs = [(name, earlier["config"][name], told["config"][name]) for name in ("num_epochs", "num_steps")]
        pairs.append(("--vary", earlier["vary"], told["vary"]))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise ConfigError(f"{FILE} cannot be read", str(path), "restore the file, or use another --workdir") from None
    differences += [f"{name}: {old} -> {new}" for name, old, new in pairs if old != new]
    if differences:
        raise ConfigError(f"the workdir holds another ablation: {'; '.join(differences)}", str(path), fix)
