"""Pytrees as Orbax stores them: nested dicts of NumPy arrays under plain names.

Names are derived from the leaves' paths (`params/conv1/kernel`, `opt_state/1/0/mu/…`); None leaves are left out. A
checkpoint therefore depends neither on the classes of optax and flax nor on devices.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from agegender_jax.errors import CheckpointError

SHOWN = 6  # differing keys in a message


def to_dict(state: Any) -> dict:
    """Return a copy of every leaf on the host, which later changes (including donation) do not affect."""
    nested: dict = {}
    for name, leaf in named_leaves(state).items():
        *parents, last = name.split("/")
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = np.array(leaf, copy=True)
    return nested


def from_dict(nested: dict, template: Any) -> Any:
    """Return the inverse of `to_dict`, in the structure of `template`."""
    leaves = named_leaves(nested)
    return jax.tree.unflatten(jax.tree.structure(template), [leaves[name] for name in named_leaves(template)])


def named_leaves(tree: Any) -> dict[str, Any]:
    """Return the leaves by name, in the order of jax.tree.leaves; parts of a name are joined by `/`."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def checkpointer() -> ocp.Checkpointer:
    """Return Orbax's checkpointer for this process only; the state is replicated, so no process waits for another."""
    process = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=process, active_processes={process}, barrier_sync_key_prefix=f"process{process}"
    )
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler(), multiprocessing_options=alone)


def shapes(folder: Path) -> dict:
    """Return the leaves of a saved tree, from its metadata, as nested dicts of jax.ShapeDtypeStruct."""
    with checkpointer() as orbax, _without_patterns(folder) as path:
        stored = orbax.metadata(path).item_metadata.tree
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(tuple(leaf.shape), leaf.dtype), stored)


def write(folder: Path, nested: dict) -> None:
    """Save nested dicts of NumPy arrays to a new folder; its parent must exist."""
    with checkpointer() as orbax, _without_patterns(folder.parent) as parent:
        orbax.save(parent / folder.name, nested)


def read(folder: Path, template: dict) -> dict:
    """Return the arrays named in `template`, a subset of `shapes(folder)`, as NumPy."""
    kinds = jax.tree.map(lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype), template)
    with checkpointer() as orbax, _without_patterns(folder) as path:
        args = ocp.args.PyTreeRestore(item=template, restore_args=kinds, partial_restore=True)
        return orbax.restore(path, args=args)


@contextlib.contextmanager
def _without_patterns(folder: Path) -> Iterator[Path]:
    """Yield a path to `folder` without brackets or backslashes, which Orbax takes for patterns; a link if necessary."""
    if not set(str(folder)) & set("[]*?\\"):
        yield folder
        return
    with tempfile.TemporaryDirectory() as place:
        link = Path(place, "checkpoint")
        link.symlink_to(folder.resolve(), target_is_directory=True)
        yield link


def check_match(stored: Any, template: Any, where: str) -> None:
    """Raise CheckpointError, listing the first differing keys, unless names, shapes and dtypes are equal."""
    expected, actual = _described(template), _described(stored)
    differing = [name for name in expected | actual if expected.get(name) != actual.get(name)]
    if not differing:
        return
    listed = [f"{name} {actual.get(name, 'absent')} for {expected.get(name, 'none')}" for name in differing[:SHOWN]]
    more = f" and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
    raise CheckpointError(
        f"the checkpoint is of another model or label space: {'; '.join(listed)}{more}",
        where,
        "use the config that it was trained with, or another checkpoint",
    )


def _described(tree: Any) -> dict[str, str]:
    """Return the dtype and shape of each leaf by name, such as "float32[3,3]"."""
    return {
        name: f"{np.dtype(leaf.dtype).name}[{','.join(map(str, leaf.shape))}]"
        for name, leaf in named_leaves(tree).items()
    }
