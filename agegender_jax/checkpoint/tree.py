"""Pytrees as Orbax stores them: nested dicts of NumPy arrays under plain names.

Names come from the leaves' paths (`params/conv1/kernel`, `opt_state/1/0/mu/…`), None leaves are absent. So a
checkpoint depends neither on the classes of optax and flax nor on devices.
"""

from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from agegender_jax.errors import CheckpointError

SHOWN = 6  # differing keys in a message


def to_dict(state: Any) -> dict:
    """Return a copy of every leaf on the host; later changes, donation included, do not reach it."""
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
    """Return leaf by name, in the order of jax.tree.leaves; parts of a name are joined by `/`."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def checkpointer() -> ocp.Checkpointer:
    """Return Orbax's checkpointer for this process alone: the state is replicated, so none waits for another."""
    process = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=process, active_processes={process}, barrier_sync_key_prefix=f"process{process}"
    )
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler(), multiprocessing_options=alone)


def shapes(folder) -> dict:
    """Return nested dicts of jax.ShapeDtypeStruct: the leaves of a saved tree, from its own metadata."""
    with checkpointer() as orbax:
        stored = orbax.metadata(folder).item_metadata.tree
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(tuple(leaf.shape), leaf.dtype), stored)


def read(folder, wanted: dict) -> dict:
    """Return the arrays named in `wanted`, a part of `shapes(folder)`, as NumPy."""
    kinds = jax.tree.map(lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype), wanted)
    with checkpointer() as orbax:
        return orbax.restore(folder, args=ocp.args.PyTreeRestore(item=wanted, restore_args=kinds, partial_restore=True))


def check_match(stored: Any, template: Any, where: str) -> None:
    """Raise CheckpointError, listing the first differing keys, unless names, shapes and dtypes are equal."""
    ours, theirs = ({name: _describe(leaf) for name, leaf in named_leaves(tree).items()} for tree in (template, stored))
    differing = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
    if not differing:
        return
    shown = [f"{name} {theirs.get(name, 'absent')} for {ours.get(name, 'none')}" for name in differing[:SHOWN]]
    more = f" and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
    raise CheckpointError(
        f"the checkpoint is of another model or label space: {'; '.join(shown)}{more}",
        where,
        "use the config that it was trained with, or another checkpoint",
    )


def _describe(leaf: Any) -> str:
    return f"{np.dtype(leaf.dtype).name}[{','.join(map(str, leaf.shape))}]"
