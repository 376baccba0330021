"""Copy a campaign's results, and the nets that it trained, to a folder from which only a few files can be taken."""

import json
import shutil
from pathlib import Path

from agegender_jax import files
from benchmarks.machine import ROOT

FILES, BYTES = 8, 63 * 2**20  # that the folder may hold


class ResultsCopy:
    """Copies the results file at each call, and each point's `files` once; what does not fit waits for the next folder.

    Args:
      results: the file of the campaign.
      folder: made if absent.
    """

    def __init__(self, results: Path, folder: Path):
        self._results, self._folder = results, folder
        self._done = results.with_suffix(".copied")

    def __call__(self) -> None:
        if not self._results.exists():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(self._results, self._folder)
        done = set(self._done.read_text().splitlines()) if self._done.exists() else set()
        points = json.loads(self._results.read_text())["points"]
        for command, entry in points.items():
            made = [ROOT / path for path in entry.get("result", {}).get("files", ())]
            if command in done or not made or not all(path.exists() for path in made):
                continue
            here = list(self._folder.iterdir())
            size = sum(path.stat().st_size for path in [*here, *made])
            if len(here) + len(made) > FILES or size > BYTES:
                print(f"  copied by the next run: {command}", flush=True)
                continue
            for path in made:
                shutil.copy(path, self._folder)
            files.replace(self._done, "\n".join([*sorted(done), command]))
            done.add(command)
