"""Several processes in one run: what each must know of the others, who tells of an error, and how all end.

A plain start is a run of one process: then nothing is sent, and errors pass as they are.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from agegender_jax import parallel
from agegender_jax.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    LocalError,
    NotFiniteError,
    PeerReportedError,
    Stopped,
    UserError,
)

SIZE = 4096  # bytes that a process tells the others at once
KINDS = {kind.code: kind for kind in (ConfigError, DataError, CheckpointError, NotFiniteError)}


def is_main() -> bool:
    """Whether this process is the one that writes and tells."""
    return jax.process_index() == 0


def connect() -> None:
    """One sum over all devices of all processes, which connects them.

    XLA's transport between CPUs gives the first collective of a set of devices 30 s to be reached by all, and
    compilation of a step can take the processes longer apart.
    """
    if jax.process_count() > 1:
        rows = parallel.Spread().split(np.zeros(jax.local_device_count(), np.float32))
        jax.block_until_ready(jax.jit(jnp.sum)(rows))


def gather(text: str) -> list[str]:
    """The texts of all processes, in their order, the same list in each. At most SIZE bytes of UTF-8 are sent."""
    if jax.process_count() == 1:
        return [text]
    raw = text.encode("utf-8", "replace")[:SIZE].ljust(SIZE, b"\0")
    rows = multihost_utils.process_allgather(np.frombuffer(raw, np.uint8))
    return [row.tobytes().rstrip(b"\0").decode("utf-8", "ignore") for row in rows]


def broadcast(tree: Any) -> Any:
    """Process 0's leaves in every process, bit for bit, as NumPy; the others give arrays of the same shapes."""
    if jax.process_count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, tree))
    whole = np.concatenate([np.ascontiguousarray(leaf).reshape(-1).view(np.uint8) for leaf in leaves])
    whole = np.asarray(multihost_utils.broadcast_one_to_all(whole))
    parts = np.split(whole, np.cumsum([leaf.nbytes for leaf in leaves])[:-1])
    found = [part.view(leaf.dtype).reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(structure, found)


def broadcast_value(value: Any) -> Any:
    """Process 0's value in every process, as JSON keeps it."""
    if jax.process_count() == 1:
        return value
    raw = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(raw))))
    return json.loads(bytes(multihost_utils.broadcast_one_to_all(np.resize(raw, size))))


def zeros(shapes: Any) -> Any:
    """Arrays to give to `broadcast`."""
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


@dataclasses.dataclass
class Agreed:
    """A number from 0 that each process sets; afterwards the largest of all."""

    value: int = 0


@contextlib.contextmanager
def sync_errors() -> Iterator[Agreed]:
    """What every process does: where it fails in one, it fails in all. An error may not skip a collective in the body.

    Raises:
      UserError: in process 0, that of the first process that failed; its `agreed` is set.
      PeerReportedError: in the others. A process whose error is of another kind raises that itself.
    """
    agreed, error = Agreed(), None
    if jax.process_count() == 1:
        yield agreed
        return
    try:
        yield agreed
    except Exception as raised:
        error = raised
    told = [text.split("\0") for text in gather(_told(agreed, error))]
    agreed.value = max(int(fields[0]) for fields in told)
    process, fields = next(((i, fields) for i, fields in enumerate(told) if fields[1] != "0"), (0, None))
    if fields is None:
        return
    code = int(fields[1])
    if error is not None and not isinstance(error, UserError):
        error.agreed = True
        raise error
    if not is_main() or code not in KINDS:
        raise PeerReportedError(code) from error
    if process:
        _, _, what, where, fix = fields
        error = KINDS[code](f"{what} (process {process})", where, fix)
    error.agreed = True
    raise error


@contextlib.contextmanager
def report_errors_once() -> Iterator[None]:
    """Around a whole run: process 0 tells what all meet; what one alone meets ends it without waiting for the others.

    Raises:
      PeerReportedError: for an error on which all agree, in all processes but the first.
      LocalError: from any other error.
    """
    try:
        yield
    except Exception as error:
        if jax.process_count() == 1 or isinstance(error, PeerReportedError):
            raise
        if not getattr(error, "agreed", False):
            raise LocalError from error
        if is_main() or not isinstance(error, UserError | Stopped):
            raise
        raise PeerReportedError(error.code) from error


def _told(agreed: Agreed, error: Exception | None) -> str:
    """Number, exit code, what, where and fix, 0 between them, each cut to a quarter of SIZE."""
    texts = (error.what, error.where, error.fix) if isinstance(error, UserError) else ("", "", "")
    code = 0 if error is None else error.code if isinstance(error, UserError) else 1
    cut = [text.replace("\0", "").encode("utf-8", "replace")[: SIZE // 4].decode("utf-8", "ignore") for text in texts]
    return "\0".join([str(agreed.value), str(code), *cut])
