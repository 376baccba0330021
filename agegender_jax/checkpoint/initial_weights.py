"""Initial weights from another run, or a file with our, torchvision's or Caffe's names. Nothing is skipped silently.

Files are read as data only: safetensors, npz without objects, and .pth by `torch.load(weights_only=True)`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from agegender_jax import files
from agegender_jax.checkpoint import reading, tree
from agegender_jax.errors import CheckpointError, ConfigError
from agegender_jax.models import caffe_names, torchvision_names

OURS = ("params/gender_head/", "params/age_hidden/", "params/age_head/", "params/head/", "params/auxiliary")
HEADS = (*OURS, "params/backbone/auxiliary", "fc.weight", "fc.bias", "classifier.6.", *caffe_names.HEADS)
COLLECTIONS = ("params/", "batch_stats/")
SHOWN = 4  # names in each list of a message


def load(path: str, template: Any, notice: Callable[[str], None] = lambda text: None) -> dict[str, np.ndarray]:
    """Return the leaves of "params" and "batch_stats" in `path` for a net, by name, in the net's shapes and dtypes.

    All leaves of the backbone must be present, and everything in `path` must be used. Only heads may be missing or have
    a different size: they keep their initialisation, and `notice` is called with their names.

    Args:
      path: a workdir, or a .safetensors, .npz, .pth or .pt file with our names (shipped weights, `launch.export`),
        torchvision's (`models.torchvision_names`) or Caffe's (`models.caffe_names`).
      template: the net's variables, as arrays or shapes.

    Raises:
      ConfigError: the path does not exist or is not of a known kind.
      CheckpointError: the file cannot be read or belongs to a different net; the message lists what is missing,
        unexpected or of a different shape.
    """
    leaves = tree.named_leaves(template)
    return _fit(*_find(files.expand(path, "--config.init_from"), leaves, notice), leaves, notice)


def mean(weights: Sequence[dict[str, np.ndarray]], sources: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the mean of several nets' leaves, as `load` returns them (Wortsman et al. 2022, arXiv 2203.05482).

    The mean is of use for nets that were trained from one start: others differ in the order of their channels.

    Raises:
      CheckpointError: they have not the same leaves, as where only some have heads that fit.
    """
    first, *others = weights
    for leaves, source in zip(others, sources[1:], strict=True):
        if differing := sorted(first.keys() ^ leaves.keys()):
            raise CheckpointError(
                f"the mean of different nets: {_list(differing)} only in one of these weights",
                f"{sources[0]} and {source}",
                "name weights of one net with the same heads",
            )
    return {
        name: np.mean([leaves[name] for leaves in weights], axis=0, dtype=np.float64).astype(value.dtype)
        for name, value in first.items()
    }


def of_variables(
    variables: Any, source: str, template: Any, notice: Callable[[str], None] = lambda text: None
) -> dict[str, np.ndarray]:
    """Return the same from variables in memory, for example from shipped weights.

    Args:
      source: their name in messages.
    """
    leaves = tree.named_leaves(template)
    return _fit(*_of_our_names(tree.named_leaves(variables), leaves), source, leaves, notice)


def _fit(
    stored: dict[str, np.ndarray], unknown: list[str], source: str, leaves: dict[str, Any], notice: Callable
) -> dict[str, np.ndarray]:
    """Return the arrays that fit, provided that all others belong to heads.

    Args:
      stored: arrays by the name of a leaf.
      unknown: names of arrays that do not belong to any leaf.
    """
    shape = {name: f"{name} {list(stored[name].shape)} for {list(leaves[name].shape)}" for name in stored}
    differing = {
        "missing": [name for name in leaves if name not in stored],
        "unexpected": unknown,
        "of another shape": [shape[name] for name in stored if stored[name].shape != leaves[name].shape],
    }
    of_body = {what: [text for text in texts if not text.startswith(HEADS)] for what, texts in differing.items()}
    if any(of_body.values()):
        lists = "; ".join(f"{what}: {_list(texts)}" for what, texts in of_body.items() if texts)
        raise CheckpointError(
            f"the weights belong to another net; {lists}",
            source,
            "choose model.name, model.width, model.stem and, for nets with dense layers, data.image_size as these "
            "weights have them",
        )
    used = {name: value for name, value in stored.items() if value.shape == leaves[name].shape}
    for name, value in used.items():
        if not jnp.issubdtype(value.dtype, np.number) or not np.isfinite(value).all():
            raise CheckpointError(
                f"{name} does not contain finite numbers only ({value.dtype})", source, "use other weights"
            )
    notice(f"{len(used)} of {len(leaves)} arrays start from {source}")
    if unchanged := differing["missing"] + differing["of another shape"]:
        notice(f"heads that keep their initialisation: {_list(unchanged)}")
    if differing["unexpected"]:
        notice(f"heads that are not used: {_list(differing['unexpected'])}")
    return {name: value.astype(leaves[name].dtype) for name, value in used.items()}


def fill(variables: Any, leaves: dict[str, np.ndarray]) -> Any:
    """Return `variables` with the named leaves replaced."""
    return tree.from_dict(tree.named_leaves(variables) | leaves, variables)


def _find(path: Path, leaves: dict[str, Any], notice: Callable) -> tuple[dict[str, np.ndarray], list[str], str]:
    """Return the arrays of a run or a file for the named leaves, the names of its other arrays, and its own name."""
    if path.is_dir():
        variables, _, step = reading.load_variables(path / "checkpoints", "best", notice)
        stored = {name: np.asarray(leaf) for name, leaf in tree.named_leaves(variables).items()}
        return *_of_our_names(stored, leaves), f"{path}, step {step}"
    stored = _read(path)
    if stored and all(name.startswith(COLLECTIONS) for name in stored):
        return *_of_our_names(stored, leaves), str(path)
    return *_of_other_names(stored, leaves, path), str(path)


def _of_our_names(stored: dict[str, np.ndarray], leaves: dict[str, Any]) -> tuple[dict[str, np.ndarray], list[str]]:
    return {name: stored[name] for name in leaves if name in stored}, sorted(stored.keys() - leaves.keys())


def _of_other_names(
    stored: dict[str, np.ndarray], leaves: dict[str, Any], path: Path
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the arrays of torchvision's or Caffe's names for the named leaves, and the names of the other arrays."""
    stored = {name: value for name, value in stored.items() if not torchvision_names.IGNORED.search(name)}
    format = caffe_names if caffe_names.are_names(stored) else torchvision_names
    if not format.known(leaves):
        raise CheckpointError(
            "weights of other programs can be read only for ResNets and Caffe's nets",
            str(path),
            "name a run's folder, or a net that has such files: docs/models.md",
        )
    if all(name.startswith("module.") for name in stored):  # saved from torch's DataParallel
        stored = {name.removeprefix("module."): value for name, value in stored.items()}
    if format is torchvision_names:
        names = {torchvision_names.name_of(name) for name in leaves}
        return torchvision_names.all_to_ours(stored, leaves), sorted(stored.keys() - names)
    names = {caffe_names.name_of(name, leaves) for name in leaves}
    try:
        arrays = caffe_names.to_ours(stored, leaves)
    except ValueError as error:
        raise CheckpointError(str(error), str(path), "write the file again, docs/models.md says how") from None
    return arrays, sorted(stored.keys() - names - {caffe_names.COLOUR})


def check_exists(path: Path) -> None:
    """Raise ConfigError if there is neither a file nor a folder."""
    if not path.exists():
        raise ConfigError(
            "there are no weights to start from",
            str(path),
            "name a run's folder, a file of weights, or weights that `agegender weights` lists",
        )


def _read(path: Path) -> dict[str, np.ndarray]:
    check_exists(path)
    readers = {".safetensors": _safetensors, ".npz": _npz, ".pth": _torch, ".pt": _torch}
    if path.suffix not in readers:
        raise ConfigError(
            f"weights of the kind {path.suffix or 'without a suffix'!r} are not known",
            str(path),
            f"use a run's folder, or one of {', '.join(readers)}",
        )
    try:
        return readers[path.suffix](path)
    except (ConfigError, CheckpointError):
        raise
    except Exception as error:  # each library has errors of its own
        raise CheckpointError(
            f"the weights cannot be read: {reading.reason(error)}", str(path), "fetch or write the file again"
        ) from error


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(path)


def _npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise ConfigError(
            ".pth files are read by PyTorch, which is not installed", str(path), "pip install torch"
        ) from None
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(
            "the file holds no state dict", str(path), "save model.state_dict(), a dict of tensors by name"
        )
    return {n: (v.detach().float() if v.is_floating_point() else v).numpy() for n, v in state.items()}


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
