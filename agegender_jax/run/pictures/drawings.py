"""The pictures that predict draws: annotated copies, and thumbnails for the gallery."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from agegender_jax import files
from agegender_jax.names import file_name
from agegender_jax.prediction.face import Picture
from agegender_jax.report import gallery

THUMBNAILS, GALLERY, ANNOTATED = "thumbnails.jsonl", "gallery.html", "annotated"
COPIES = "annotated.json"  # the coverage of the intervals on the copies, once all are drawn with it
PREVIEW = 1600  # pixels of the longest side of annotated copies


class Drawings:
    """The drawings in a folder of predictions.

    Args:
      folder: where predictions.jsonl is.
      annotate: draw a copy of each picture with faces.
      gallery: draw a thumbnail of each face. A folder with thumbnails of earlier calls gets those of later ones too, so
        that its gallery shows all rows.
      coverage: of the intervals. Copies with another one are drawn again.

    Attributes:
      preview: longest side in pixels that `Picture.preview` needs; 0 for none.
    """

    def __init__(self, folder: Path, annotate: bool, gallery: bool, coverage: float):
        self._folder, self._annotate, self._coverage = folder, annotate, coverage
        self._gallery = gallery or (folder / THUMBNAILS).exists()
        self.preview = PREVIEW if annotate else 0

    def missing(self, rows: Iterable[dict[str, Any]]) -> dict[str, list[int] | None]:
        """Return the pictures with a face that is not drawn: their names and the states in their rows."""
        if not (self._annotate or self._gallery):
            return {}
        outdated = self._annotate and self._drawn_coverage() != self._coverage
        thumbnails = {(item["file"], item["face"]) for item in self._thumbnails()} if self._gallery else set()
        names: dict[str, list[int] | None] = {}
        for row in rows:
            if row["face"] is not None and row["file"] not in names:
                no_thumbnail = self._gallery and (row["file"], row["face"]) not in thumbnails
                if no_thumbnail or outdated or (self._annotate and not self._copy(row["file"]).exists()):
                    names[row["file"]] = row["state"]
        return names

    def draw(self, picture: Picture, is_new: bool) -> None:
        """Draw a picture; a copy of an earlier state is removed if no new one is drawn.

        Args:
          is_new: whether its rows are new.
        """
        if self._gallery:
            with open(self._folder / THUMBNAILS, "ab") as file:
                file.write(gallery.thumbnails(picture))
        copy = self._copy(picture.name)
        if self._annotate and picture.faces:
            copy.parent.mkdir(exist_ok=True)
            files.replace(copy, gallery.annotated(picture))
        elif is_new:
            copy.unlink(missing_ok=True)

    def finish(self, rows: Iterable[dict[str, Any]], summary: dict[str, Any]) -> None:
        """Record that the copies are complete, and write the page of all rows, if there is a gallery."""
        if self._annotate and (self._folder / ANNOTATED).is_dir():
            files.replace(self._folder / COPIES, files.to_json({"coverage": self._coverage}) + "\n")
        if self._gallery:
            gallery.write(self._folder / GALLERY, rows, self._folder / THUMBNAILS, summary)

    def _drawn_coverage(self) -> float | None:
        """Return the coverage of the copies; None if unknown, as in folders of earlier versions."""
        try:
            return json.loads((self._folder / COPIES).read_bytes())["coverage"]
        except (OSError, *files.MALFORMED):
            return None

    def _thumbnails(self) -> Iterator[dict[str, Any]]:
        return gallery.read_thumbnails(self._folder / THUMBNAILS)

    def _copy(self, name: str) -> Path:
        return self._folder / ANNOTATED / f"{file_name(name)}.jpg"
