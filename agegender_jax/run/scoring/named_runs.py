"""The runs that an evaluation or an explanation names: their configs, and their names in the results."""

from collections.abc import Sequence

from agegender_jax import config as config_lib
from agegender_jax import files
from agegender_jax.errors import CheckpointError, ConfigError
from agegender_jax.evaluation.members import ENSEMBLE
from agegender_jax.names import unique
from agegender_jax.run.workdir import Workdir


def read_runs(workdirs: Sequence[str]) -> tuple[list[Workdir], list[dict]]:
    """Return the runs and their configs, as plain dicts.

    Raises:
      ConfigError, CheckpointError: no workdir is named, one is named twice, or one is not that of a run.
    """
    if not workdirs:
        raise ConfigError("--workdir is missing", "--workdir", "name the folder of at least one run")
    runs = [Workdir(path) for path in workdirs]
    for i, run in enumerate(runs):
        if run.path in [earlier.path for earlier in runs[:i]]:  # links and relative paths are resolved
            raise ConfigError(f"a run is named twice: {run.path}", f"--workdir={run.argument}", "name each run once")
    return runs, [read_config(run) for run in runs]


def read_config(run: Workdir) -> dict:
    """Return the config of the run in a workdir, as plain dicts; raise CheckpointError if there is none."""
    config = run.read_config() if run.path.is_dir() else None
    if config is None:
        raise CheckpointError("there is no run in the workdir", str(run.path), "train first, or name another --workdir")
    try:
        config_lib.default().update(config)  # another field or kind of value raises
        config["model"]["gender_to_age"], config["data"]["source"]
    except files.MALFORMED:
        raise CheckpointError(
            "config.json of the workdir is not the config of a run",
            str(run.config),
            "restore the file, or name another --workdir",
        ) from None
    return config


def member_names(folders: Sequence[str]) -> list[str]:
    """Return a name for each folder name: a repeated name gets -2, -3 and so on, as does the name of the ensemble."""
    names: list[str] = []
    for folder in folders:
        names.append(unique(folder, (ENSEMBLE, *names).__contains__))
    return names
