"""What the workdir of a member says of its training."""

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import PurePath

from agegender_jax import config as config_lib


@dataclasses.dataclass(frozen=True)
class Run:
    """A member's training, as its workdir tells it.

    Attributes:
      name: as in the results. step: of the checkpoint that answered.
      config: config.json. run: run.json, {} where there is none.
      splits: images in "train", "val" and "test" by splits.csv, {} where there is none.
      rows: metrics.jsonl. calibration: calibration.json, or None.
    """

    name: str
    step: int
    config: dict
    run: dict
    splits: dict[str, int]
    rows: list[dict]
    calibration: dict | None = None

    def changed(self) -> dict[str, tuple]:
        """Fields of the config that differ from the defaults: name -> (default, here)."""
        default = dict(config_lib.flat(config_lib.default()))
        here = dict(config_lib.flat(self.config))
        return {name: (default.get(name), value) for name, value in here.items() if default.get(name) != value}

    def seconds(self) -> float | None:
        """Time in training steps, evaluation aside: images over images a second, summed over the train lines."""
        total, before = 0.0, 0
        for row in self.rows:
            if row["split"] == "train" and row.get("images_per_second"):
                total += (row["step"] - before) * self.config["batch_size"] / row["images_per_second"]
                before = row["step"]
        return total or None


def command_line(argv: Sequence[str], width: int = 100) -> str:
    """What to type for a program's arguments: `python -m launch.train --config=...`, long ones on several lines."""
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
