"""Exit codes and messages of `launch.train`: its workdir, source, devices, disk and output."""

import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile

import launched_run
import numpy as np
import programs
import pytest
from launched_run import SMALL, train
from PIL import Image
from programs import check

from agegender_jax import synthetic
from agegender_jax.run.workdir import Workdir


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Return the folder with the faces and the run of `launched_run`."""
    return launched_run.make(tmp_path_factory)


@pytest.mark.parametrize("below", ["", "run"])
def test_workdir_is_a_file(base, below):
    (base / "file").write_text("")
    done = train(base, f"--workdir={base / 'file' / below}")
    check(done, 2, "the workdir cannot be used", f"  where: {base / 'file'}", "use another --workdir")


def test_workdir_cannot_be_written(tmp_path):
    tmp_path.chmod(0o555)
    # root may write anywhere, unless it gives that up
    plain = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override") if os.getuid() == 0 else ()
    if plain and (not shutil.which("setpriv") or not subprocess.run((*plain, "touch", tmp_path / "x")).returncode):
        pytest.skip("root cannot give up its rights here")
    done = programs.start("train", *SMALL, f"--workdir={tmp_path / 'run'}", prefix=plain)
    check(done, 2, "the workdir cannot be used: Permission denied", f"  where: {tmp_path / 'run'}\n", "use another")


def test_workdir_in_use(base):
    with Workdir(base / "held"):
        check(train(base, f"--workdir={base / 'held'}"), 2, f"in use by process {os.getpid()}")


def test_workdir_of_another_config(base):
    done = train(base, f"--workdir={base / 'run'}", "--config.seed=3")
    check(done, 2, "seed: 0 -> 3")


def test_batch_not_divisible_by_the_devices(base):
    done = train(base, f"--workdir={base / 'x'}", "--config.batch_size=15", devices=2)
    check(done, 2, "batch_size 15", "2 devices")


def test_default_source_explains_itself(base):
    done = programs.run("train", "--config=configs/ran.py", f"--workdir={base / 'x'}")
    check(done, 3, "data/crop_part1", ".tar.gz", "UTKFace", "--config.data.source=synthetic")


def test_defaults_of_source_and_workdir(base, tmp_path):
    (tmp_path / "configs").symlink_to(programs.ROOT / "configs")
    (tmp_path / "data").mkdir()
    with tarfile.open(tmp_path / "data" / "crop_part1.tar", "w") as archive:
        archive.add(base / "faces", "crop_part1")
    small = [argument for argument in SMALL if not re.search("num_steps|figures", argument)]
    cache = f"--config.data.cache_dir={base / 'cache'}"
    done = programs.run(
        "train", "--config=configs/resnet.py:18,paper", *small[1:], "--config.num_steps=1", cache, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "runs" / "resnet-18-paper" / "results.json").read_text())
    assert results["source"]["name"] == "crop_part1" and results["models"][0]["name"] == "resnet-18-paper"
    assert results["made_by"]["command"].startswith("python -m launch.train --config=configs/resnet.py:18,paper ")
    drawn = {path.name for path in (tmp_path / "runs" / "resnet-18-paper" / "figures").iterdir()}
    assert drawn >= {"curves.png", "ages.png", "confusion_age.png", "samples.png", "groups.png"}


def test_cache_folder_cannot_be_written(base):
    (base / "occupied").write_text("")
    below = base / "occupied" / "cache"
    check(train(base, f"--config.data.cache_dir={below}", f"--workdir={base / 'x'}"), 2, str(below), "cache_dir")


def test_continues_when_its_output_is_closed(base):
    workdir = base / "unread"
    arguments = (
        *SMALL,
        f"--config.data.source={base / 'faces'}",
        f"--config.data.cache_dir={base / 'cache'}",
    )
    command = programs.command("train", *arguments, "--config.num_steps=1", f"--workdir={workdir}")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=programs.ROOT, env=programs.environment(), text=True, **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait(120) == 0
    assert (workdir / "results.json").exists()


def test_empty_source(base):
    (base / "empty").mkdir()
    check(train(base, f"--config.data.source={base / 'empty'}", f"--workdir={base / 'x'}"), 3, "no images")


def test_truncated_archive(base):
    with tarfile.open(base / "cut.tar", "w") as archive:
        archive.add(base / "faces", "faces")
    os.truncate(base / "cut.tar", (base / "cut.tar").stat().st_size // 2)
    done = train(base, f"--config.data.source={base / 'cut.tar'}", f"--workdir={base / 'x'}")
    check(done, 3, "the archive is damaged or cut short", f"  where: {base / 'cut.tar'}\n", "copy or download it again")


def test_too_many_bad_files(base):
    folder = base / "bad"
    synthetic.write_faces(folder, 20, seed=1, size=32)
    (folder / "30_0_0_20170101000000000.jpg").write_bytes(b"not an image")
    done = train(base, f"--config.data.source={folder}", f"--workdir={base / 'many'}")
    list_path = base / "many" / "bad_images.csv"
    check(done, 3, "1 of 21", "30_0_0_20170101000000000.jpg", f"that {list_path} lists", "--config.data.max_bad=0.05\n")
    assert [line.split(",")[0] for line in list_path.read_text().splitlines()] == [
        "file",
        "30_0_0_20170101000000000.jpg",
    ]
    (base / "hopeless").mkdir()
    (base / "hopeless" / "30_0_0_20170101000000000.jpg").write_bytes(b"not an image")
    done = train(base, f"--config.data.source={base / 'hopeless'}", f"--workdir={base / 'many'}")
    check(done, 3, "no usable image among 1 files", f"{list_path} lists these files")


def test_batch_larger_than_the_train_split(base):
    done = train(base, f"--workdir={base / 'x'}", "--config.batch_size=64")
    check(done, 3, "batch_size 64", "train split of")


def test_source_changed_since_the_run_began(base):
    workdir = base / "changed"
    folder = base / "growing"
    synthetic.write_faces(folder, 60, seed=2, size=32)
    (folder / "30_0_0_20170101000000000.jpg").write_bytes(b"not an image")
    source = (f"--config.data.source={folder}", f"--workdir={workdir}", "--config.num_steps=1")
    source += ("--config.data.max_bad=0.05",)
    done = train(base, *source)
    assert done.returncode == 0, done.stderr
    assert f"1 of 61 files are unusable: {workdir / 'bad_images.csv'} lists them\n" in done.stdout
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(folder / "20_1_1_20170101000000000.png")
    check(train(base, *source), 3, "changed since the run began")


def test_loss_not_finite(base):
    wild = ("--config.optimizer.name=sgd", "--config.optimizer.lr=1e30", "--config.optimizer.clip_norm=0")
    check(train(base, f"--workdir={base / 'wild'}", *wild), 5, "not finite", "optimizer.lr")


@pytest.fixture
def small_disk():
    """A file system of 1 MiB."""
    with tempfile.TemporaryDirectory() as folder:
        mount = ("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder)
        if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("file systems cannot be mounted here")
        try:
            yield folder
        finally:
            subprocess.run(("umount", folder), check=True)


def test_disk_full(base, small_disk):
    large = "--config.model.age_hidden=8192"  # 2 MB, and quick to compile
    done = train(base, f"--workdir={small_disk}/run", "--config.num_steps=1", large)
    check(
        done, 4, "the disk is full: a checkpoint of step 1 needs", f"{small_disk}/run/checkpoints", "the same command"
    )


def test_terminal_shows_the_last_metrics(base):
    command = (*SMALL, f"--config.data.source={base / 'faces'}", f"--config.data.cache_dir={base / 'cache'}")
    command += (f"--workdir={base / 'shown'}", "--config.num_steps=1", "--config.log.every_steps=1")
    code, shown = programs.run_on_terminal("train", *command, columns=80)
    assert code == 0, shown
    last = programs.rows(base / "shown")[-2]
    figures = f"loss {last['loss']:.3f}  age {last['age_accuracy']:.3f}  gender {last['gender_accuracy']:.3f}"
    speed = f"{last['images_per_second']:.0f} images/s  data wait {last['data_wait']:.0%}"
    assert last["split"] == "train" and f"train  {figures}  {speed}" in shown
    assert re.search(r"epoch 0\.33/0\.33 ━+ 1/1 0:00:00", shown)
    assert re.search(r"epoch 0\.33/0\.33  val    loss [\d.]+  age [\d.]+  gender [\d.]+  AABD [\d.]+", shown)
