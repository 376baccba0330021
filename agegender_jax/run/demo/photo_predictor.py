"""The predictions for a photo, as HTML."""

from collections.abc import Callable, Sequence

import numpy as np

from agegender_jax import synthetic
from agegender_jax.explain.maps import Maps, compute_maps
from agegender_jax.prediction.members import Member
from agegender_jax.prediction.predictor import Predictor
from agegender_jax.report import photo_predictions

PREVIEW = 1000  # pixels of the longest side of the annotated photo
EXPLAINED = 6  # faces of a photo that get maps


class PhotoPredictor:
    """Predict for photos, and explain the predictions.

    Args:
      predictor: a predictor with a batch size of 1, so that padding takes no time.
      methods: attributions, from explain.METHODS; those that a net does not support are left out.
    """

    def __init__(self, predictor: Predictor, methods: Sequence[str]):
        self.predictor, self.methods = predictor, tuple(methods)

    def __call__(self, content: bytes) -> str:
        """Return HTML: the photo with boxes, and each face with its prediction and maps, or why there are none.

        Args:
          content: the bytes of a picture file.
        """
        (picture,) = self.predictor.pictures([("photo", content)], previews=PREVIEW)
        maps = [self.explain(face.sized) for face in picture.faces[:EXPLAINED]]
        return photo_predictions.html(picture, maps)

    def explain(self, sized: dict[int, np.ndarray]) -> list[tuple[str, Maps]]:
        """Return (name, maps) of each net for one face.

        Args:
          sized: see `Face.sized`.
        """
        return [(member.name, self._maps(member, sized[member.image_size])) for member in self.predictor.members]

    def compile(self, progress: Callable[[int, int, str], None] = lambda *step: None) -> None:
        """Compile all programs, so that the first photo need not wait.

        Args:
          progress: receives (done, total, description).
        """
        members = self.predictor.members
        sized = {size: _drawn_face(size) for size in self.predictor.sizes}
        self.predictor.probs({size: chip[None] for size, chip in sized.items()})
        for done, member in enumerate(members):
            progress(done, len(members), f"compiling {member.name}")
            self._maps(member, sized[member.image_size])
        progress(len(members), len(members), "compiling")

    def _maps(self, member: Member, chip: np.ndarray) -> Maps:
        open_from = self.predictor.faces_from_probs.open_from
        return compute_maps(member.model, member.variables, chip[None], methods=self.methods, open_from=open_from)


def _drawn_face(size: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return synthetic.draw_face(rng, *synthetic.sample_label(rng), size)[0]
