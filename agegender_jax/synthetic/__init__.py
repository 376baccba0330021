"""Synthetic faces with known age, gender and race, for training and tests without a download."""

from agegender_jax.synthetic.faces import AGE_SHARES, RACE_SHARES, draw_face, masks, sample_label, write_faces
from agegender_jax.synthetic.photos import draw_photo, write_photo

__all__ = [
    "AGE_SHARES",
    "RACE_SHARES",
    "draw_face",
    "draw_photo",
    "masks",
    "sample_label",
    "write_faces",
    "write_photo",
]
