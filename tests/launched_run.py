"""Faces, and a run that `launch.train` trained on them, made once for all test files and workers that use them."""

import fcntl
import os

import programs

from agegender_jax import synthetic

SMALL = (*programs.SMALL, "--config.model.name=levi_hassner")  # compiles quickly


def make(tmp_path_factory):
    """Return a folder with 60 drawn faces in `faces` and a run in `run`; tests add files of other names to it."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root  # the folder of all workers
    folder = root / "launched"
    with open(root / "launched.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "run" / "results.json").exists():
            synthetic.write_faces(folder / "faces", 60, seed=0, size=32)
            done = train(folder, f"--workdir={folder / 'run'}", "--config.num_steps=1")
            assert done.returncode == 0, done.stderr
    return folder


def train(base, *arguments, devices=1):
    """Return the finished `launch.train` on the faces in `base`."""
    command = (*SMALL, f"--config.data.source={base / 'faces'}", f"--config.data.cache_dir={base / 'cache'}")
    return programs.run("train", *command, *arguments, devices=devices)
