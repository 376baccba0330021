"""Two drivers of the per-device step, `shard_map` (default) and `pmap`, and arrays distributed over devices.

The per-device step is `step(state, batch) -> state`, with collectives over the axis "data". The state is replicated and
the batch is split by rows. Both drivers compile the step with jit, donate the state, and agree bit for bit.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "data"
NAMES = ("shard_map", "pmap")


class Spread:
    """Arrays on a one-dimensional mesh of devices, either replicated or split by rows.

    Args:
      devices: of all processes by default.
    """

    def __init__(self, devices: Sequence[jax.Device] | None = None):
        self.mesh = Mesh(np.array(devices or jax.devices()), (AXIS,))
        self._replicated = NamedSharding(self.mesh, PartitionSpec())
        self._split = NamedSharding(self.mesh, PartitionSpec(AXIS))
        self._whole = jax.jit(lambda tree: tree, out_shardings=self._replicated)

    def replicate(self, tree: Any) -> Any:
        """Return host or device arrays, which must be equal in all processes, replicated on every device."""
        if self._replicated.is_fully_addressable:
            return jax.device_put(tree, self._replicated)
        # device_put would have the processes compare every leaf
        local = jax.tree.map(np.asarray, tree)
        return jax.make_array_from_process_local_data(self._replicated, local)

    def split(self, batch: Any) -> Any:
        """Return the global batch whose rows of this process are these NumPy arrays."""
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(self._split, x), batch)

    def gather(self, tree: Any) -> Any:
        """Return the rows of all devices and processes as NumPy, in every process."""
        return jax.tree.map(np.asarray, tree if self._split.is_fully_addressable else self._whole(tree))


class ShardMap(Spread):
    """`jit(shard_map(step))` over the mesh."""

    def __init__(self, step: Callable[..., Any], devices: Sequence[jax.Device] | None = None):
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


class PMap(Spread):
    """`pmap(step)` over the devices of all processes; arrays are spread over those of this process.

    The state has no device axis (`in_axes=None`). With a device axis, XLA would fuse the update of some parameters
    differently, and the drivers would differ in the last bit.
    """

    def __init__(self, step: Callable[..., Any], devices: Sequence[jax.Device] | None = None):
        devices = list(devices or jax.devices())
        super().__init__([device for device in devices if device.process_index == jax.process_index()])
        self.step = jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=None, devices=devices, donate_argnums=0)

    def split(self, batch: Any) -> Any:
        """Return this process's numpy rows with a leading device axis, one part on each device."""
        count = self.mesh.size
        return jax.tree.map(lambda x: jax.device_put(x.reshape(count, -1, *x.shape[1:]), self._split), batch)


def driver(name: str, step: Callable[..., Any], devices: Sequence[jax.Device] | None = None) -> ShardMap | PMap:
    """Return the driver called `name`, one of NAMES, on `devices`; None for all devices."""
    drivers: dict[str, type[ShardMap] | type[PMap]] = {"shard_map": ShardMap, "pmap": PMap}
    return drivers[name](step, devices)
