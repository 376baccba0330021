"""How a member was trained, for the report and the model card."""

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import PurePath

from agegender_jax import config as config_lib
from agegender_jax import models

SYNTHETIC = "synthetic"  # name of the source of generated faces


@dataclasses.dataclass(frozen=True)
class Run:
    """The training of a member, from the files in its workdir.

    Attributes:
      name: as in the results.
      step: of the evaluated checkpoint.
      config: config.json.
      run: run.json, {} if it is missing.
      splits: number of images in "train", "val" and "test" by splits.csv, {} if it is missing.
      rows: of metrics.jsonl.
      calibration: calibration.json, None if it is missing.
    """

    name: str
    step: int
    config: dict
    run: dict
    splits: dict[str, int]
    rows: list[dict]
    calibration: dict | None = None

    def changed(self) -> dict[str, tuple]:
        """Return the config fields that differ from the defaults: name -> (default, value)."""
        default = dict(config_lib.flat(config_lib.default()))
        values = dict(config_lib.flat(self.config))
        return {name: (default.get(name), value) for name, value in values.items() if default.get(name) != value}

    def seconds(self) -> float | None:
        """Return the time spent in training steps, without evaluation; None if it was not logged."""
        total, previous = 0.0, 0
        for row in self.rows:
            if row["split"] == "train" and row.get("images_per_second"):
                total += (row["step"] - previous) * self.config["batch_size"] / row["images_per_second"]
                previous = row["step"]
        return total or None

    def source(self) -> str:
        """Return the name of the source."""
        return self.run.get("source", {}).get("name") or self.config["data"]["source"]

    def split_rule(self) -> str:
        """Return what decided the split of each image."""
        data = self.config["data"]
        return "by a CSV, data.splits" if data.get("splits") else f"by content, split_seed {data['split_seed']}"

    def is_solved(self) -> bool:
        """Return whether the net or its heads were solved, not trained in steps."""
        return models.is_solved(self.config["model"])

    def rounds(self) -> int:
        """Return the epochs of SGD between the solutions of a solved head."""
        return self.config.get("elm", {}).get("rounds", 0)

    def optimizer(self) -> str:
        """Return how the weights were found."""
        if self.is_solved():
            rate = self.config["elm"]["joint_lr"] if self.rounds() else 0
            between = f"; between the solutions SGD, rate {rate:g}, batch {self.config['batch_size']}" if rate else ""
            return f"solved in closed form{between}"
        o = self.config["optimizer"]
        return f"{o['name']}, rate {o['lr']:g}, batch {self.config['batch_size']}, {o['schedule']} schedule"

    def untrained_heads(self) -> list[str]:
        """Return the heads whose loss weight is 0."""
        return [head for head in ("age", "gender") if not self.config["loss"][f"{head}_weight"]]

    def is_free(self) -> bool:
        """Return whether no photograph influenced the weights: synthetic faces and no other nets."""
        other_nets = self.config["init_from"] or self.config["loss"].get("teacher")
        return is_synthetic(self.run.get("source", {}).get("name", "")) and not other_nets


def is_synthetic(source: str) -> bool:
    """Return whether a source, by its name, consists of generated faces."""
    return source == SYNTHETIC


def command_line(argv: Sequence[str], width: int = 100) -> str:
    """Return the shell command for a program's arguments, `python -m launch.train --config=...`, wrapped at `width`."""
    if not argv:
        return ""
    path = PurePath(argv[0])
    lines = [f"python -m launch.{path.stem}" if path.parent.name == "launch" else shlex.quote(argv[0])]
    for argument in map(shlex.quote, argv[1:]):
        if len(lines[-1]) + 1 + len(argument) > width - 2:
            lines.append(f"    {argument}")
        else:
            lines[-1] += f" {argument}"
    return " \\\n".join(lines)
