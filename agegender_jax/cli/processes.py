"""Several processes for one run: flags, the environment of a cluster, and their connection."""

import os
import threading
import time
from typing import Any

from agegender_jax.errors import ConfigError, LocalError

# jax.distributed.initialize() needs all of a line's variables; the last one counts the processes
CLUSTERS = (
    ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS"),
    ("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_SIZE"),
)
LINGER = 20.0  # seconds at most


def join(coordinator: str | None, num_processes: int | None, process_id: int | None, timeout: int) -> None:
    """Make this process one of several, before anything asks jax for a device; do nothing for a single process.

    Set all three values or none. Without them, those of SLURM or Open MPI are used if it started several processes.

    Args:
      coordinator: HOST:PORT where process 0 listens.
      timeout: seconds in which all processes must connect.

    Raises:
      ConfigError: values that are incomplete or impossible.
      LocalError: from a ConfigError, if the processes did not connect in time.
    """
    if (coordinator, num_processes, process_id) == (None, None, None):
        if _tasks() > 1:
            _initialize(timeout)  # jax gives each task of a node one of its GPUs
        return
    _check(coordinator, num_processes, process_id)
    if num_processes and num_processes > 1:
        # without "deactivate", SLURM's variables would take all GPUs but one from the process
        _initialize(timeout, coordinator, num_processes, process_id, cluster_detection_method="deactivate")


def _tasks() -> int:
    """Return how many processes a cluster started; 1 outside a cluster."""
    for names in CLUSTERS:
        if all(name in os.environ for name in names):
            count = os.environ[names[-1]]
            if os.environ.get("SLURM_STEP_NUM_TASKS", count) == "1":  # a shell inside of an allocation
                return 1
            return int(count) if count.isdecimal() else 1
    return 1


def _check(coordinator: Any, num_processes: Any, process_id: Any) -> None:
    values = {"--coordinator": coordinator, "--num_processes": num_processes, "--process_id": process_id}
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise ConfigError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing",
            "command line",
            "give --coordinator, --num_processes and --process_id together, or none of them",
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 2**16:
        raise ConfigError(
            f"{coordinator!r} is not HOST:PORT", "--coordinator", "for example --coordinator=node1:29500, on every node"
        )
    if num_processes < 1:
        raise ConfigError(f"num_processes must be at least 1, got {num_processes}", "--num_processes", "count them all")
    if not 0 <= process_id < num_processes:
        raise ConfigError(
            f"process_id must be between 0 and {num_processes - 1}, got {process_id}",
            "--process_id",
            f"number the {num_processes} processes from 0",
        )


def _initialize(timeout: int, *address, **how: Any) -> None:
    """`jax.distributed.initialize`, in a thread: jax itself would abort the process after its timeout."""
    import jax

    failed: list[Exception] = []

    def connect() -> None:
        try:
            jax.distributed.initialize(*address, **how, initialization_timeout=timeout + 60)  # type: ignore[misc]
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(timeout)
    if not thread.is_alive() and not failed:
        _linger()
        return
    reason = f": {failed[0]}".splitlines()[0] if failed else f" within {timeout} s"
    where = (
        f"--coordinator={address[0]}, process {address[2]} of {address[1]}" if address else "the cluster's environment"
    )
    raise LocalError from ConfigError(
        f"the processes have not found each other{reason}",
        where,
        "start all of them, with one --coordinator: a free port of process 0's host that every node reaches; "
        "--initialization_timeout waits longer",
    )


def _linger() -> None:
    """Let process 0 answer the others until they have left, after all have agreed to leave.

    jax ends the service that connects the processes as soon as they have agreed. A process that has not read the answer
    yet takes that for the death of process 0: it prints a fatal error, and its exit code can become 1.
    """
    from jax._src import distributed  # jax.distributed does not show the service

    state = distributed.global_state
    if state.service is not None:
        address = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS") or str(state.coordinator_address)
        port = address.rpartition(":")[2]
        state.service = _Lingering(state.service, int(port) if port.isdecimal() else 0)


class _Lingering:
    """jax's service of process 0, which ends when no other process is connected to its port."""

    def __init__(self, service: Any, port: int) -> None:
        self._service = service
        self._port = port

    def shutdown(self) -> None:
        import psutil  # here, so that the start of a single process does not pay for it

        end = time.monotonic() + LINGER
        try:
            while time.monotonic() < end and _has_visitors(self._port):
                time.sleep(0.02)
        except (psutil.Error, OSError):  # the system does not show connections
            time.sleep(1)
        self._service.shutdown()


def _has_visitors(port: int) -> bool:
    """Return whether another process is connected to a port of this one."""
    import psutil

    connections = psutil.Process().net_connections("tcp")
    own = {connection.laddr.port for connection in connections}
    return any(
        connection.status == psutil.CONN_ESTABLISHED
        and connection.laddr.port == port
        and connection.raddr.port not in own
        for connection in connections
    )
