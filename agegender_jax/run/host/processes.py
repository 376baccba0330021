"""The protocol between the processes of a run: collectives on host values, and agreement on errors and on the exit.

With a single process nothing is sent, and errors pass unchanged.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Iterator
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
from agegender_jax.run.host.signals import CODES, StopFlag

SIZE = 4096  # bytes of text that a process sends at once
PREFIX = 4  # bytes before them, which hold their number
KINDS = {kind.code: kind for kind in (ConfigError, DataError, CheckpointError, NotFiniteError)}


def is_main() -> bool:
    """Return whether this process is process 0, which writes the workdir and reports errors."""
    return jax.process_index() == 0


def connect() -> None:
    """Sum over all devices of all processes once, to connect them.

    XLA's transport between CPUs requires all processes to reach the first collective of a set of devices within 30 s,
    but the compilation of a step can delay some of them for longer.
    """
    if jax.process_count() > 1:
        rows = parallel.Spread().split(np.zeros(jax.local_device_count(), np.float32))
        jax.block_until_ready(jax.jit(jnp.sum)(rows))


def gather_texts(text: str) -> list[str]:
    """Return the texts of all processes, in order, in every process. At most SIZE bytes of UTF-8 are sent."""
    if jax.process_count() == 1:
        return [text]
    raw = text.encode("utf-8", "replace")[:SIZE]
    sent = len(raw).to_bytes(PREFIX, "big") + raw.ljust(SIZE, b"\0")
    rows = [row.tobytes() for row in multihost_utils.process_allgather(np.frombuffer(sent, np.uint8))]
    ends = [PREFIX + int.from_bytes(row[:PREFIX], "big") for row in rows]
    return [row[PREFIX:end].decode("utf-8", "ignore") for row, end in zip(rows, ends, strict=True)]


def broadcast(tree: Any) -> Any:
    """Return process 0's leaves in every process, bit for bit, as NumPy; the others pass arrays of the same shapes."""
    if jax.process_count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, tree))
    whole = np.concatenate([np.ascontiguousarray(leaf).reshape(-1).view(np.uint8) for leaf in leaves])
    whole = np.asarray(multihost_utils.broadcast_one_to_all(whole))
    parts = np.split(whole, np.cumsum([leaf.nbytes for leaf in leaves])[:-1])
    received = [part.view(leaf.dtype).reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(structure, received)


def broadcast_value(value: Any) -> Any:
    """Return process 0's value in every process, as JSON represents it."""
    if jax.process_count() == 1:
        return value
    raw = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(raw))))
    return json.loads(bytes(multihost_utils.broadcast_one_to_all(np.resize(raw, size))))


def zeros(shapes: Any) -> Any:
    """Return arrays of zeros to pass to `broadcast`."""
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


@dataclasses.dataclass
class Agreed:
    """A non-negative number that each process sets; afterwards it is the largest of all."""

    value: int = 0


@contextlib.contextmanager
def sync_errors() -> Iterator[Agreed]:
    """Run the body in every process; if it fails in one, fail in all. An error must not skip a collective in the body.

    Raises:
      UserError, Stopped: in process 0, the error of the first process that failed, with `agreed` set.
      PeerReportedError: in the other processes. A process with any other kind of error raises it itself.
    """
    agreed = Agreed()
    error: Any = None  # a UserError, Stopped or any other
    if jax.process_count() == 1:
        yield agreed
        return
    try:
        yield agreed
    except Exception as raised:
        error = raised
    reports = [text.split("\0") for text in gather_texts(_encode(agreed, error))]
    agreed.value = max(int(fields[0]) for fields in reports)
    process, fields = next(((i, fields) for i, fields in enumerate(reports) if fields[1] != "0"), (0, None))
    if fields is None:
        return
    code = int(fields[1])
    if error is not None and not isinstance(error, UserError | Stopped):
        error.agreed = True
        raise error
    if not is_main() or (code not in KINDS and code not in CODES.values()):
        raise PeerReportedError(code) from error
    if process:
        error = _decode(process, fields)
    error.agreed = True
    raise error


@contextlib.contextmanager
def report_errors_once() -> Iterator[None]:
    """Wrap a whole run: process 0 reports errors on which all agree; others end their process without a barrier.

    Raises:
      PeerReportedError: for an error on which all agree, in all processes except the first.
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


def until_stopped(batches: Iterable[Any], stop: StopFlag | None, doing: str, step: int | None = None) -> Iterator[Any]:
    """Yield the batches, equally many in each process; after a signal in any of them, raise Stopped in all."""
    for batch in batches:
        if stop is not None:
            with sync_errors():
                stop.check(doing, step)
        yield batch


def _encode(agreed: Agreed, error: Exception | None) -> str:
    """Join the number, exit code, what, where and fix by NUL characters, each text cut to a quarter of SIZE."""
    code, texts = 0 if error is None else 1, ("", "", "")
    if isinstance(error, UserError):
        code, texts = error.code, (error.what, error.where, error.fix)
    elif isinstance(error, Stopped):
        code, texts = error.code, (error.doing, "" if error.step is None else str(error.step), "")
    cut = [text.replace("\0", "").encode("utf-8", "replace")[: SIZE // 4].decode("utf-8", "ignore") for text in texts]
    return "\0".join([str(agreed.value), str(code), *cut])


def _decode(process: int, fields: list[str]) -> UserError | Stopped:
    """Return the error that `process` has encoded."""
    code, (what, where, fix) = int(fields[1]), fields[2:]
    if code in CODES.values():
        return Stopped(code, int(where) if where else None, what)
    return KINDS[code](f"{what} (process {process})", where, fix)
