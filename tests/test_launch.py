"""Exit codes and messages of the commands."""

import csv
import json
import os
import re
import resource
import shutil
import subprocess
import tarfile
import tempfile

import numpy as np
import programs
import pytest
from PIL import Image
from programs import check

from agegender_jax import synthetic
from agegender_jax.checkpoint import manifest
from agegender_jax.cli import exits
from agegender_jax.run.workdir import Workdir


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with 60 drawn faces and a run trained on them."""
    folder = tmp_path_factory.mktemp("launch")
    synthetic.write_faces(folder / "faces", 60, seed=0, size=32)
    done = train(folder, f"--workdir={folder / 'run'}", "--config.num_steps=1")
    assert done.returncode == 0, done.stderr
    return folder


SMALL = (*programs.SMALL, "--config.model.name=levi_hassner")  # compiles quickly


def train(base, *arguments, devices=1):
    command = (*SMALL, f"--config.data.source={base / 'faces'}", f"--config.data.cache_dir={base / 'cache'}")
    return programs.run("train", *command, *arguments, devices=devices)


@pytest.mark.parametrize(
    "name, flag",
    [
        ("train", "workdir"),
        ("evaluate", "workdir"),
        ("explain", "head"),
        ("ablate", "vary"),
        ("audit", "source"),
        ("benchmark", "what"),
    ],
)
def test_help_is_quick_and_needs_no_jax(name, flag):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = programs.start(name, "--help", python=("-X", "importtime"))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0 and f"--{flag}" in done.stdout
    assert f"python -m launch.{name} " in done.stdout or f"agegender {name} " in done.stdout
    assert (
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5
    )  # not on the clock of a busy machine
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "absl.flags" in imported and not imported & {"jax", "flax", "tensorflow_datasets", "matplotlib"}


@pytest.mark.parametrize("flag", ["--?", "-?", "-h", "--helpfull", "--help=true", "--helpxml"])
def test_every_form_of_help(flag):
    done = programs.run("models", flag)
    assert done.returncode == 0 and "Flags:" in done.stdout


BAD_ARGUMENTS = [
    ([], ["--config is missing"]),
    (["--config="], ["--config is missing"]),
    (
        ["--config=configs/rann.py"],
        ["  where: configs/rann.py\n", "cannot be read: No such file", "the configs are "],
    ),
    (["--config=rann"], ["no config is named 'rann'", "quickstart, ran, "]),
    (["--config=configs/r\nan\x1b.py"], ["  where: configs/r\\nan\\x1b.py\n"]),
    (["--config=configs/ran.py:nix"], ["unknown variant 'nix'", "92, paper"]),
    (
        ["--config=configs/ran.py", "--config.optimizer.lrr=1"],
        ["field optimizer.lrr\n", "did you mean optimizer.lr?"],
    ),
    (["--config=configs/ran.py", "--config.lr=1"], ["field lr\n", "did you mean optimizer.lr?"]),
    (["--config=configs/ran.py", "--config.optimiser.lr=1"], ["optimiser.lr\n", "did you mean optimizer.lr?"]),
    (["--config=configs/ran.py", "--config.optimiser.name=x"], ["did you mean optimizer.name?"]),
    (["--config=configs/ran.py", "--config.dat.source=x"], ["field dat.source\n", "did you mean data.source?"]),
    (["--config=configs/ran.py", "--config.optimiser=x"], ["field optimiser\n", "did you mean optimizer?"]),
    (["--config=configs/ran.py", "--config.seed.x=1"], ["field seed.x\n", "did you mean seed?"]),
    (["--config=configs/ran.py", "--config.xyzzy=1"], ["field xyzzy\n", "see --help for all fields"]),
    (["--config=configs/ran.py", "--config.optimizer.lr=much"], ["--config.optimizer.lr=much"]),
    (["--config=configs/ran.py", "--config.optimizer.lr=-1"], ["optimizer.lr must be above 0"]),
    (["--config=configs/ran.py", "--config.model.name=ran57"], ["ran57", "did you mean ran56?"]),
    (
        ["--config=configs/resnet.py", "--config.model.learning=naive"],
        ["resnet18 has no learning to choose\n", "  where: --config.model\n"],
    ),
    (["--config=configs/ran.py", "--config.batch_size=0"], ["batch_size must be at least 1"]),
    (["--config=configs/ran.py", "--config.data.image_size=31"], ["image_size must be between 32"]),
    (["--config=configs/ran.py", "--wrokdir=x"], ["unknown flag --wrokdir", "did you mean workdir?"]),
    (["--config=configs/ran.py", "left", "over"], ["unexpected argument 'left'"]),
    (["--config=configs/ran.py", "--flagfile=nosuch"], ["Unable to open flagfile", "see --help"]),
]


@pytest.mark.parametrize("arguments, texts", BAD_ARGUMENTS)
def test_bad_flags_and_fields(arguments, texts):
    check(programs.run("train", *arguments), 2, *texts)


BAD_FILES = [
    ("x = 1", "the config file has no function get_config", "", "define get_config()"),
    ("def get_config():\n    pass", "get_config returns NoneType, not ConfigDict", "", "return config"),
    (
        "def get_config():\n    raise ValueError('one\\ntwo')",
        "fails: ValueError: one two",
        ", line 2",
        "correct that line",
    ),
    (
        "import nowhere_at_all",
        "ModuleNotFoundError: No module named 'nowhere_at_all'",
        ", line 1",
        "correct that line",
    ),
    ("x = 1\ndef get_config(:\n", "fails: SyntaxError: invalid syntax", ", line 2", "correct that line"),
]


@pytest.mark.parametrize("text, what, line, fix", BAD_FILES)
def test_bad_config_files(text, what, line, fix, tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text(text)
    check(programs.run("train", f"--config={path}"), 2, f"{what}\n", f"  where: {path}{line}\n", fix)


def test_variant_of_a_config_file_without_variants(tmp_path):
    path = tmp_path / "plain.py"
    path.write_text("from agegender_jax import config\n\ndef get_config():\n    return config.default()\n")
    done = programs.run("train", f"--config={path}:92")
    check(done, 2, "variants do not fit get_config: TypeError", f"  where: {path}\n", "leave out :92")


def test_ctrl_c_has_the_same_message_in_every_program(capsys):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as raised:
        exits.guard(interrupted)
    assert raised.value.code == 130
    assert capsys.readouterr().err == "stopped by Ctrl-C; the same command starts again\n"


def test_debug_shows_the_stack_trace():
    done = programs.run("train", "--config=configs/rann.py", "--debug")
    assert done.returncode == 2 and "Traceback" in done.stderr and done.stderr.splitlines()[-1].startswith("  fix:")


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


def test_terminal_shows_the_last_figures(base):
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


def test_evaluate_needs_a_run(base):
    check(programs.run("evaluate", "--workdir=/nowhere/at/all"), 4, "there is no run")
    check(programs.run("evaluate"), 2, "--workdir is missing")


def test_evaluate_a_run_without_a_config(base):
    broken = base / "no_config"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    done = programs.run("evaluate", f"--workdir={broken}")
    check(done, 4, "config.json of the workdir is not the config of a run", f"  where: {broken / 'config.json'}\n")


def test_evaluate_unknown_checkpoint():
    done = programs.run("evaluate", "--workdir=runs/ran", "--checkpoint=beast")
    check(done, 2, "unknown checkpoint 'beast'", "  where: --checkpoint\n", "use best, latest or a step's number")


def test_evaluate_without_a_usable_checkpoint(base):
    damaged, empty = base / "damaged", base / "empty_run"
    for copy in (damaged, empty):
        shutil.copytree(base / "run", copy)
    for path in (damaged / "checkpoints").rglob("*"):
        if path.is_file() and path.name == "config.json":
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
    shutil.rmtree(empty / "checkpoints")
    done = programs.run("evaluate", f"--workdir={damaged}", f"--out={base / 'out'}")
    check(
        done, 4, "no usable checkpoint: step 1: config.json is damaged (sha256 differs)", str(damaged / "checkpoints")
    )
    done = programs.run("evaluate", f"--workdir={empty}", f"--out={base / 'out'}")
    check(done, 4, "there is no checkpoint", f"  where: {empty / 'checkpoints'}\n", "train first")


def test_evaluate_cannot_write(base):
    (base / "out_file").write_text("")
    done = programs.run("evaluate", f"--workdir={base / 'run'}", f"--out={base / 'out_file'}")
    check(done, 2, "--out cannot be used", f"  where: {base / 'out_file'}\n", "name a folder that can be written")


def test_evaluate_members_of_different_sources(base):
    other = base / "elsewhere"
    shutil.copytree(base / "run", other)
    for name, group, field in (("config", "data", "source"), ("run", "source", "fingerprint")):
        results = json.loads((other / f"{name}.json").read_text())
        results[group][field] = "another"
        (other / f"{name}.json").write_text(json.dumps(results))
    done = programs.run("evaluate", f"--workdir={base / 'run'}", f"--workdir={other}", f"--out={base / 'out'}")
    check(done, 2, "the members were trained on different sources: ", "another", "with --source")


def test_evaluate_checkpoint_of_another_step(base):
    run = f"--workdir={base / 'run'}"
    check(programs.run("evaluate", run, "--checkpoint=7", f"--out={base / 'out'}"), 4, "step 7", "latest or one of 1")


def test_evaluate_checkpoint_of_another_model(base):
    other = base / "other_model"
    shutil.copytree(base / "run", other)
    step = other / "checkpoints" / "1"
    config = json.loads((step / "config.json").read_text())
    config["model"]["width"] = 0.25
    (step / "config.json").write_text(json.dumps(config))
    manifest.write(step, 1, manifest.read(step)["metrics"])
    done = programs.run("evaluate", f"--workdir={other}", f"--out={base / 'out'}")
    check(
        done,
        4,
        "the checkpoint is of another model or label space",
        "float32[16] for float32[24]",
        f"  where: {step}\n",
    )


def test_evaluate_refuses_leaked_images(base):
    arguments = (f"--workdir={base / 'run'}", "--split=all", f"--out={base / 'leak'}")
    (base / "leak" / "figures").mkdir(parents=True)
    for name in ("ages.png", "attention_run.png", "mine.txt"):  # two of an earlier evaluation
        (base / "leak" / "figures" / name).write_bytes(b"")
    check(programs.run("evaluate", *arguments), 3, "trained or validated on", "--exclude_leaked", "--allow_leak")
    check(programs.run("evaluate", *arguments, "--allow_leak", "--exclude_leaked"), 2, "contradict each other")
    done = programs.run("evaluate", *arguments, "--exclude_leaked", "--nofigures")
    assert done.returncode == 0, done.stderr
    results, own = (json.loads((base / name / "results.json").read_text()) for name in ("leak", "run"))
    assert (results["n"], results["excluded_leaked"], results["allow_leak"]) == (own["n"], 60 - own["n"], False)
    assert own["excluded_leaked"] == 0 and f"{60 - own['n']} of 60 images are left out" in done.stdout
    assert f"{60 - own['n']} images are left out" in (base / "leak" / "report.html").read_text()
    done = programs.run("evaluate", *arguments, "--allow_leak", "--nocalibrate", "--nofigures")
    assert done.returncode == 0, done.stderr
    results = json.loads((base / "leak" / "results.json").read_text())
    assert results["allow_leak"] is True and results["calibrated"] is False
    assert not list((base / "leak" / "figures").glob("*.png"))
    assert (base / "leak" / "figures" / "mine.txt").exists()
    page = (base / "leak" / "report.html").read_text()
    assert "<img" not in page


def test_evaluate_refuses_recompressed_images_and_runs_without_splits(base):
    with open(base / "run" / "splits.csv", newline="") as file:
        trained = [row["file"] for row in csv.DictReader(file) if row["split"] == "train"][:5]
    (base / "again").mkdir()
    for name in trained:
        Image.open(base / "faces" / name).save(base / "again" / name, quality=80)
    arguments = (f"--source={base / 'again'}", "--split=all", f"--out={base / 'out'}")
    done = programs.run("evaluate", f"--workdir={base / 'run'}", *arguments)
    check(done, 3, "of 5 images, or near-duplicates of them, were trained", f"{base / 'run' / 'splits.csv'}\n")
    shutil.copytree(base / "run", base / "no_splits")
    (base / "no_splits" / "splits.csv").unlink()
    done = programs.run("evaluate", f"--workdir={base / 'no_splits'}", *arguments)
    check(done, 3, "splits.csv of the run is missing or damaged", f"{base / 'no_splits' / 'splits.csv'}\n")


def test_evaluate_two_runs_as_an_ensemble(base):
    with tarfile.open(base / "faces.tar", "w") as archive:
        archive.add(base / "faces", "faces")
    tar = f"--config.data.source={base / 'faces.tar'}"  # the same source by another path
    other = train(base, f"--workdir={base / 'other'}", "--config.num_steps=2", "--config.data.image_size=40", tar)
    assert other.returncode == 0, other.stderr
    runs = (f"--workdir={base / 'run'}", f"--workdir={base / 'other'}")
    done = programs.run("evaluate", *runs, f"--out={base / 'both'}")
    assert done.returncode == 0, done.stderr
    results = json.loads((base / "both" / "results.json").read_text())
    assert [model["name"] for model in results["models"]] == ["run", "other", "ensemble"]
    assert results["n"] == len((base / "both" / "predictions.csv").read_text().splitlines()) - 1 > 0
    alone = json.loads((base / "run" / "results.json").read_text())["models"][0]
    assert {key: results["models"][0][key] for key in alone} == alone
    assert results["made_by"]["command"] == " ".join(["python -m launch.evaluate", *runs, f"--out={base / 'both'}"])
    assert results["made_by"]["devices"]["platform"] == "cpu" and results["made_by"]["versions"]["jax"]
    assert "ensemble against other: age accuracy" in " ".join(done.stdout.split())
