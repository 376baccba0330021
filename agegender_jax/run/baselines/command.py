"""Train or fit every system, or resume, and write baselines.json and baselines.md with paired differences."""

import json
import time
from collections.abc import Sequence

from ml_collections import ConfigDict

from agegender_jax import config as config_lib
from agegender_jax import extras, files, models
from agegender_jax.data import split_exceptions
from agegender_jax.data.resolve import check_outside
from agegender_jax.errors import ConfigError, DataError, Stopped
from agegender_jax.run import checks, dataset, train
from agegender_jax.run.baselines import json_rows, markdown_table, speed
from agegender_jax.run.baselines.systems import OTHER_SOURCE, REFERENCE, SYSTEMS, System, config_of
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.host.signals import stop_flag
from agegender_jax.run.workdir import Workdir, finished_runs, provenance, write_json
from agegender_jax.suggestions import nearest

FILE, PAGE, COMMON = "baselines.json", "baselines.md", "common.json"


def baselines(
    config: ConfigDict, workdir: str, only: Sequence[str], command: list[str], against: Sequence[str] = ()
) -> dict:
    """Train the systems, each in its own folder in `workdir`, and return the content of baselines.json.

    Systems that are solved from scratch come first, because they take the least time. After each system, the table is
    written with all finished systems in the folder.

    Args:
      config: the common fields; each system changes some.
      only: names of the systems; empty for all. Systems that these start from, and the reference, are trained, too.
      against: folders of finished runs of the same split, with which every row is also compared.

    Raises:
      UserError, Stopped: as `train.fit`.
    """
    chosen, of_table = choose(only), choose([])
    if config.data.source.startswith("synthetic"):  # the source of the transfer is then the target itself
        chosen, of_table = (
            [system for system in rows if "drawn_faces" not in (system.name, system.starts_from)]
            for rows in (chosen, of_table)
        )
    configs = check(chosen, config, Workdir(workdir))
    chosen.sort(key=lambda system: bool(system.starts_from) or not models.is_solved(configs[system.name].model))
    with Workdir(workdir) as folder, stop_flag() as stop:
        check_same(folder, config)
        progress = Progress(stop=stop)
        with progress:
            own = dataset.load_dataset(config, progress.prepare)
        if not len(own.indices("test")):
            raise DataError("the test split is empty", own.prepared.name, "give more images")
        for system in chosen:
            checks.same_recipe(Workdir(folder.path / system.name), configs[system.name])
        for system in of_table:
            if system.name not in OTHER_SOURCE:
                checks.same_data(Workdir(folder.path / system.name), own)
        runs = [Workdir(path) for path in against]
        json_rows.others(runs, own)
        write_json(folder.path / COMMON, config.to_dict())

        def write() -> dict:
            content = json_rows.results(of_table, folder, own, runs) | {"made_by": provenance.made_by(command)}
            write_json(folder.path / FILE, content)
            files.replace(folder.path / PAGE, markdown_table.render(content))
            return content

        content = None
        for i, system in enumerate(chosen, 1):
            run = Workdir(folder.path / system.name)
            progress.note(f"system {i} of {len(chosen)}: {system.name}")
            if not run.is_tested():
                began = time.monotonic()
                train.fit(configs[system.name], str(run.path), command)
                progress.note(f"{system.name}: {time.monotonic() - began:.0f} s")
                content = None
            if speed.read(run) is None:
                speed.measure(run)
                content = None
            content = content or write()
            if stop.code and i < len(chosen):
                raise Stopped(stop.code, finished_runs.tested(run)["step"])
        content = write()
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
    check_outside(split_exceptions.join(common.data.source, common.data.train_on), folder.path, "--workdir")
    configs = {system.name: config_of(system, common, folder) for system in chosen}
    if any(config.model.name == "region_sift" for config in configs.values()):
        extras.check("baselines")
    for config in configs.values():
        config_lib.validate(config)
        models.from_config(config.model)
    return configs


def check_same(folder: Workdir, config: ConfigDict) -> None:
    """Raise ConfigError if the folder contains a run, or systems with other common fields."""
    if folder.read_config() is not None:
        raise ConfigError("the workdir holds a run", str(folder.config), "use another --workdir")
    path = folder.path / COMMON
    if not path.exists():
        return
    try:
        earlier = json.loads(path.read_bytes())
        differences = config_lib.resume_difference(earlier, config.to_dict())
        budget = earlier["num_epochs"], earlier["num_steps"]
    except (OSError, *files.MALFORMED):
        raise ConfigError(
            "the fields of the systems in the workdir cannot be read",
            str(path),
            "delete that file to go on with the fields of this command, which each run compares with its own",
        ) from None
    if budget != (config.num_epochs, config.num_steps):
        differences.append("num_epochs or num_steps")
    if differences:
        raise ConfigError(
            f"the workdir holds systems of another config: {'; '.join(differences)}", str(path), "use another --workdir"
        )
