"""A Ray cluster to compute on: one on this machine only, or one that is already running."""

import contextlib
import logging
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator

from agegender_jax.errors import ConfigError

REACH = 10.0  # seconds
STORE = 256 * 2**20  # bytes of shared memory: results are small
# Ray's name of a setting for other systems, which makes a local cluster use the loopback address only.
LOCAL = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_worker_niceness": "0",  # 15 by default
}


@contextlib.contextmanager
def connect(address: str | None) -> Iterator[None]:
    """Connect to a cluster while entered.

    Without an address, a cluster is started on this machine. Its processes listen only on the loopback address, accept
    commands only with a random token, send no usage statistics, and end with this process.

    Args:
      address: HOST:PORT of a cluster, as `ray start --head` prints it, or None.

    Raises:
      ConfigError: there is no cluster at the address, or none can be started.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # Ray reports restarts of actors as errors
    if address:
        os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # or a thread that outlives the connection starts another cluster
        _check_reached(address)
    else:
        os.environ.update(LOCAL)
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # a process reads it once
    import ray  # reads the environment

    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    # a new folder in /tmp, whose path is short enough for sockets
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:  # nosec B108
        try:
            if address:
                ray.init(address, **quiet)
            else:
                own = {"include_dashboard": False, "object_store_memory": STORE, "_temp_dir": folder}
                ray.init("local", num_cpus=os.cpu_count() or 1, **own, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            what = (str(error) or type(error).__name__).splitlines()[0][:200]
            raise ConfigError(
                f"the Ray cluster cannot be used: {what}",
                f"--ray_address={address}" if address else "--engine=ray",
                "name a cluster that runs (ray start --head prints its address), or --engine=local",
            ) from error
        try:
            yield
        finally:
            ray.shutdown()


def _check_reached(address: str) -> None:
    """Raise ConfigError if nothing answers at HOST:PORT; Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=REACH).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"there is no Ray cluster at the address: {error}",
            f"--ray_address={address}",
            "use HOST:PORT as `ray start --head` prints it, or leave it out for processes of this machine",
        ) from error
