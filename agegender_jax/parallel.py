"""Two drivers of one per-device step, `shard_map` (default) and literal `pmap`, and batches spread over devices.

The per-device step is `step(state, batch) -> state`, with collectives over the axis "data". The state is
replicated, the batch split; both drivers are jit-compiled, donate the state and agree bit for bit.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "data"
NAMES = ("shard_map", "pmap")


class Spread:
    """Arrays over a one-dimensional mesh of devices of all processes: whole on each, or split by rows."""

    def __init__(self, devices: Sequence[jax.Device] | None = None):
        self.mesh = Mesh(np.array(devices or jax.devices()), (AXIS,))
        self._replicated = NamedSharding(self.mesh, PartitionSpec())
        self._split = NamedSharding(self.mesh, PartitionSpec(AXIS))
        self._whole = jax.jit(lambda tree: tree, out_shardings=self._replicated)

    def replicate(self, tree: Any) -> Any:
        """The same host or device arrays, equal in all processes, on every device."""
        if self._replicated.is_fully_addressable:
            return jax.device_put(tree, self._replicated)
        # device_put would have the processes compare every leaf
        local = jax.tree.map(np.asarray, tree)
        return jax.make_array_from_process_local_data(self._replicated, local)

    def split(self, batch: Any) -> Any:
        """This process's numpy rows as its part of the global batch."""
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(self._split, x), batch)

    def gather(self, tree: Any) -> Any:
        """The rows of all devices and processes as NumPy, in every process."""
        return jax.tree.map(np.asarray, tree if self._split.is_fully_addressable else self._whole(tree))


class ShardMap(Spread):
    """`jit(shard_map(step))` over the mesh."""

    def __init__(self, step: Callable, devices: Sequence[jax.Device] | None = None):
        super().__init__(devices)
        # check_vma=True would sum gradients of replicated parameters before the step's own pmean
        mapped = jax.shard_map(
            step,
            mesh=self.mesh,
            in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
            out_specs=PartitionSpec(),
            check_vma=False,
        )
        self.step = jax.jit(mapped, donate_argnums=0)

    def fetch(self, state: Any) -> Any:
        """The state without any device axis, to save or to evaluate."""
        return state


class PMap:
    """`pmap(step)`: the state carries a leading device axis until it is fetched."""

    def __init__(self, step: Callable, devices: Sequence[jax.Device] | None = None):
        self._devices = list(devices or jax.devices())
        self._local = [d for d in self._devices if d.process_index == jax.process_index()]
        self._split = NamedSharding(Mesh(np.array(self._local), (AXIS,)), PartitionSpec(AXIS))
        self.step = jax.pmap(step, AXIS, devices=self._devices, donate_argnums=0)

    def replicate(self, state: Any) -> Any:
        count = len(self._local)
        return jax.tree.map(lambda x: jax.device_put(np.stack([np.asarray(x)] * count), self._split), state)

    def split(self, batch: Any) -> Any:
        count = len(self._local)
        return jax.tree.map(lambda x: jax.device_put(x.reshape(count, -1, *x.shape[1:]), self._split), batch)

    def fetch(self, state: Any) -> Any:
        return jax.tree.map(lambda x: x.addressable_shards[0].data[0], state)


def driver(name: str, step: Callable, devices: Sequence[jax.Device] | None = None) -> ShardMap | PMap:
    """The driver called `name`, one of NAMES, over all devices unless told which."""
    return {"shard_map": ShardMap, "pmap": PMap}[name](step, devices)
