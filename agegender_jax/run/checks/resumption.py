"""Checks that a run resumes with the config, the data and the split that it began with."""

from ml_collections import ConfigDict

from agegender_jax import config as config_lib
from agegender_jax.errors import ConfigError, DataError
from agegender_jax.run import leaks
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.workdir import Workdir

PATHS = {"init_from", "train_on", "exclude", "teacher"}  # fields of `same_recipe` that may name a moved file


def same_run(workdir: Workdir, config: ConfigDict) -> bool:
    """Return whether the workdir has a run of this config; raise ConfigError if it has a run of another config.

    A run that ended before its first checkpoint counts as none.
    """
    earlier = workdir.read_config()
    if earlier is None:
        if any(workdir.checkpoints.glob("[0-9]*")):
            raise ConfigError(
                "the workdir holds checkpoints of a run whose config is gone",
                str(workdir.config),
                "restore config.json (each checkpoint has a copy), or use another --workdir",
            )
        if workdir.results.exists():
            raise ConfigError(
                "the workdir holds the results of an evaluation, which the run's own would replace",
                str(workdir.results),
                "use another --workdir",
            )
        return False
    differences = config_lib.resume_difference(earlier, config_lib.to_dict(config))
    if differences and not any(workdir.checkpoints.glob("[0-9]*")) and not workdir.results.exists():
        return False  # nothing was saved, so the run begins anew
    if differences:
        raise ConfigError(
            f"the workdir holds a run with another config: {'; '.join(differences)}",
            str(workdir.config),
            "use another --workdir, or the config of that run",
        )
    return True


def same_recipe(workdir: Workdir, config: ConfigDict) -> None:
    """Raise ConfigError if the workdir has a run of another config or length, even if it is finished.

    Paths may differ: a folder of runs can be moved. A solved net's number of support vectors is that of the run.
    """
    earlier, now = workdir.read_config(), config_lib.to_dict(config)
    if earlier is None:
        return
    now["model"]["support"] = earlier["model"].get("support", now["model"]["support"])
    for values, was in ((now, earlier), (now["data"], earlier["data"]), (now["loss"], earlier["loss"])):
        for field in PATHS & values.keys():
            values[field] = was.get(field) if was.get(field) and values[field] else values[field]
    differences = config_lib.resume_difference(earlier, now)
    lengths = [name for name in ("num_epochs", "num_steps") if earlier[name] != now[name]]
    differences += [f"{name}: {earlier[name]} -> {now[name]}" for name in lengths]
    if differences:
        raise ConfigError(
            f"the folder holds a run with another config: {'; '.join(differences)}",
            str(workdir.config),
            "use another --workdir",
        )


def same_data(workdir: Workdir, faces: Dataset) -> None:
    earlier = workdir.read_run()
    if earlier and earlier["source"]["fingerprint"] != faces.prepared.fingerprint:
        raise DataError(
            "the source has changed since the run began",
            f"{faces.prepared.name}: fingerprint {faces.prepared.fingerprint[:16]}, "
            f"was {earlier['source']['fingerprint'][:16]}",
            "restore the source, or train in another --workdir",
        )
    if any(workdir.checkpoints.glob("[0-9]*")):
        _same_split(workdir, faces)


def _same_split(workdir: Workdir, faces: Dataset) -> None:
    """Raise DataError if splits.csv has another split for an image; continuing would leak test images."""
    try:
        images = leaks.read_splits(workdir)
    except DataError:  # missing or damaged: it is written again
        return
    now = dict(zip(faces.prepared.file.tolist(), faces.assignment.tolist(), strict=True))
    moved = [file for file, split in zip(images.file, images.split, strict=True) if now.get(file, split) != split]
    if moved:
        raise DataError(
            f"{len(moved)} images are in another split than when the run began, for example {moved[0]}",
            str(workdir.splits),
            "resume with the data.splits, data.exclude and version of agegender_jax that began the run, or train in "
            "another --workdir",
        )
