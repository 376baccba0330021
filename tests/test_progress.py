"""Progress where stdout is no terminal; tests/test_launch.py tests a terminal."""

import time

from rich.table import Table

from agegender_jax.run.host.progress import Progress

ROW = {
    "step": 12,
    "epoch": 1.0,
    "split": "train",
    "loss": 2.30259,
    "age_accuracy": 0.25,
    "gender_accuracy": None,
    "images_per_second": 143.4,
    "data_wait": 0.021,
}


def test_plain_lines(capsys):
    with Progress() as progress:
        progress.start(12, 60, 12)
        progress.step(13)
        progress.row(ROW)
        progress.row(ROW | {"step": 60, "split": "val", "gender_accuracy": 0.5, "aabd": 1.5})
        progress.warn("[bold]\x1b[2J")
    assert capsys.readouterr().out.splitlines() == [
        "training: 60 steps, 12 an epoch; compiling the step",
        "epoch 1.00/5.00  train  loss 2.303  age 0.250  gender n/a  143 images/s  data wait 2%",
        "epoch 5.00/5.00  val    loss 2.303  age 0.250  gender 0.500  AABD 1.500",
        "WARNING: [bold]\\x1b[2J",
    ]


def test_the_eta_leaves_compilation_out(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = Progress()
    progress.start(0, 60, 12)
    for step, seconds in ((1, 100), (11, 120)):
        now[0] = float(seconds)
        progress.step(step)
    progress.row(ROW | {"step": 11})
    assert capsys.readouterr().out.endswith("ETA 0:01:38\n")  # 49 steps of 2 s


def test_names_cannot_act_as_markup(capsys):
    table = Table(title="[red]1")
    table.add_column("model")
    table.add_row("ran [red]2[/red]")
    Progress().show(table)
    output = capsys.readouterr().out
    assert "[red]1" in output and "ran [red]2[/red]" in output


def test_preparation_reports_progress(capsys):
    progress = Progress()
    for done in range(1, 100):
        progress.prepare(done, 99, "drawing faces")
    assert capsys.readouterr().out == "drawing faces: 1 of 99\n"
