"""agegender predict --engine=ray: the rows of the local engine by actors of a Ray cluster.

pip install -e '.[ray]' && python -m pytest -m slow tests/test_ray.py
"""

import contextlib
import ipaddress
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import drawn_photos
import programs
import pytest
import small_weights

from agegender_jax import extras
from agegender_jax.data.listing import Entry
from agegender_jax.errors import ConfigError
from agegender_jax.run.cluster import Cluster, engine
from agegender_jax.run.cluster.connection import connect
from agegender_jax.run.pictures import prediction_rows
from agegender_jax.run.pictures.picture_files import PictureFile
from agegender_jax.run.predict import predict

needs_ray = pytest.mark.skipif(not extras.is_installed("ray"), reason="ray is not installed")
ACTOR = "MapWorker(MapBatches(Actor))"


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    return small_weights.write(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Thirty pictures of no face, one or two, one of them damaged, one with a hostile name."""
    root = tmp_path_factory.mktemp("photos")
    for i in range(30):
        photo = drawn_photos.background(130, 260, i)
        for k in range(i % 3):
            photo = drawn_photos.paste(photo, drawn_photos.face(2 + (i + k) % 5), (70 + 120 * k, 65), 110)
        (root / f"{i:02}.jpg").write_bytes(drawn_photos.encode(photo, "JPEG", quality=90))
    (root / "07.jpg").write_bytes(b"no picture")
    (root / os.fsdecode(b"=\xff,.jpg")).write_bytes((root / "04.jpg").read_bytes())
    return root


def run(paths, out, shipped, **options):
    predict([str(path) for path in paths], workdirs=[], weights_dir=str(shipped), out=str(out), **options)
    return (out / "predictions.csv").read_bytes()


def descendants(pid):
    """(pid, command line) of all processes below a process."""
    below, known = [], {pid}
    for entry in sorted(int(path.name) for path in pathlib.Path("/proc").glob("[0-9]*")):
        try:
            parent = int(pathlib.Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
            command = pathlib.Path(f"/proc/{entry}/cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if parent in known:
            known.add(entry)
            below.append((entry, command))
    return below


def listening(pids):
    """The addresses on which processes accept connections."""
    inodes = set()
    for pid in pids:
        for handle in pathlib.Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(os.readlink(handle).removeprefix("socket:[").removesuffix("]"))
            except OSError:
                continue
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                digits = bytes.fromhex(fields[1].partition(":")[0])
                words = [digits[i : i + 4][::-1] for i in range(0, len(digits), 4)]  # each in the machine's order
                address = ipaddress.ip_address(b"".join(words))
                addresses.add(getattr(address, "ipv4_mapped", None) or address)
    return addresses


@pytest.mark.slow
@needs_ray
def test_two_workers_give_the_rows_of_the_local_engine_although_one_is_killed(folder, shipped, tmp_path, monkeypatch):
    expected = run([folder], tmp_path / "local", shipped)
    monkeypatch.setattr(engine, "PART", 3)
    killed, bound = [], set()

    def kill():
        while not (tmp_path / "ray" / "predictions" / "part-00001.parquet").exists():
            time.sleep(0.02)
        processes = descendants(os.getpid())
        bound.update(listening(pid for pid, _ in processes))
        workers = [pid for pid, command in processes if ACTOR in command]
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        killed.append(workers[0])

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    rows = run([folder], tmp_path / "ray", shipped, cluster=Cluster(workers=2))
    assert killed and rows == expected
    assert len(bound) >= 1 and all(address.is_loopback for address in bound), bound
    parts = sorted((tmp_path / "ray" / "predictions").iterdir())
    assert [path.name for path in parts] == [f"part-{i:05}.parquet" for i in range(11)]
    assert not list(pathlib.Path("/tmp").glob(f"ray-*/session_*_{os.getpid()}"))  # its logs are gone
    # a stopped call resumes, and a changed picture is predicted again
    for path in parts[4:]:
        path.unlink()
    changed = folder / "04.jpg"
    original = changed.read_bytes()
    changed.write_bytes((folder / "05.jpg").read_bytes())
    times = {path.name: path.stat().st_mtime_ns for path in parts[:4]}
    run([folder], tmp_path / "ray", shipped, cluster=Cluster(workers=2))
    again = {path.name: path.stat().st_mtime_ns for path in parts[:4]}
    assert [name for name in times if again[name] != times[name]] == ["part-00001.parquet"]  # without the old rows
    faces = [row for row in prediction_rows.read(tmp_path / "ray") if row["file"] == str(changed)]
    assert len(faces) == 2
    changed.write_bytes(original)
    assert json.loads((tmp_path / "ray" / "summary.json").read_text())["answered_before"] == 11
    with pytest.raises(ConfigError, match="predictions from another call: engine differ"):
        run([folder], tmp_path / "ray", shipped)


@pytest.mark.slow
@needs_ray
def test_parquet_of_bytes_and_a_stop(folder, shipped, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted(folder.glob("0*.jpg"))
    table = pa.table({"image": [path.read_bytes() for path in files], "path": [path.name for path in files]})
    (tmp_path / "tables").mkdir()
    pq.write_table(table, tmp_path / "tables" / "faces.parquet", row_group_size=4)
    expected = run([tmp_path / "tables"], tmp_path / "local", shipped)
    assert run([tmp_path / "tables"], tmp_path / "ray", shipped, cluster=Cluster()) == expected
    command = [sys.executable, "-m", "launch.predict", str(folder), "--engine=ray", f"--weights_dir={shipped}"]
    process = subprocess.Popen(
        [*command, f"--out={tmp_path / 'stopped'}"], cwd=programs.ROOT, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not any(ACTOR in name for _, name in descendants(process.pid)):
        time.sleep(0.1)
    process.terminate()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 75 and "the same command resumes" in errors and "Traceback" not in errors, errors


@pytest.mark.slow
@needs_ray
def test_a_cluster_that_is_already_running(folder, shipped, tmp_path):
    """A head that `ray start` starts in a process of its own, which predict connects to and leaves running."""
    environment = {name: value for name, value in programs.environment().items() if not name.startswith("RAY_")}
    environment["PYTHONPATH"] = str(programs.ROOT)  # the machines of a cluster have the package
    environment["RAY_worker_niceness"] = "0"  # 15 by default, which on a busy machine takes minutes
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    command += ["--node-ip-address=127.0.0.1", f"--port={address.rpartition(':')[2]}", "--num-cpus=2"]
    command += ["--include-dashboard=false", f"--object-store-memory={2**28}"]
    expected = run([folder], tmp_path / "local", shipped)
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as place:
        command.append(f"--temp-dir={place}")
        head = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            assert any("--block" in line for line in head.stdout)  # its last lines: it runs until it is ended
            arguments = ["--engine=ray", f"--ray_address={address}", f"--weights_dir={shipped}"]
            predict_there = programs.command("predict", folder, *arguments, f"--out={tmp_path / 'ray'}")
            done = subprocess.run(
                predict_there, cwd=programs.ROOT, env=environment, capture_output=True, text=True, timeout=240
            )
            assert done.returncode == 0, done.stderr
            assert (tmp_path / "ray" / "predictions.csv").read_bytes() == expected
            assert head.poll() is None
            socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))).close()
        finally:
            below = [pid for pid, _ in descendants(head.pid)]
            head.terminate()
            head.wait(timeout=60)
            head.stdout.close()
            for pid in below:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "localhost", "127.0.0.1:99999999", "ray://127.0.0.1:9"])
def test_an_address_without_a_cluster_is_an_error(address):
    with pytest.raises(ConfigError, match=r"no Ray cluster at the address[\s\S]*ray start --head"), connect(address):
        pass


def test_what_the_engine_does_not_take(tmp_path, monkeypatch):
    monkeypatch.setattr(extras, "check", lambda extra: None)
    packed = PictureFile("a.tar/b.jpg", Entry("b.jpg"), archive=object())
    with pytest.raises(ConfigError, match="reads no archives: a.tar/b.jpg"):
        Cluster().check([packed], False)
    with pytest.raises(ConfigError, match="draws nothing"):
        Cluster().check([], True)
    Cluster().check([PictureFile("b.jpg", Entry("b.jpg"))], False)


def test_flags_of_another_engine_and_an_absent_extra(tmp_path):
    done = programs.run("predict", "a.jpg", "--ray_address=localhost:6379")
    programs.check(done, 2, "--ray_address needs the ray engine", "--engine=ray")
    if not extras.is_installed("ray"):
        done = programs.run("predict", "a.jpg", "--engine=ray")
        programs.check(done, 2, "not installed: ray", "pip install 'agegender-jax[ray]'")
