"""The predictions for a photo as HTML for the demo page, with all pictures embedded."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from agegender_jax.prediction.face import Face, Picture
from agegender_jax.report import formatting, gallery, jpeg, overlay
from agegender_jax.report.jinja_environment import ENVIRONMENT
from agegender_jax.report.overlay import Panel

LETTERS = 0.04  # of the photo's longest side, height of the labels: readable on a phone
SIDE = 160  # pixels of a map
WARNINGS = {
    "small_face": "the face is small",
    "tilted": "the face is tilted",
    "cut_off": "the face is cut off by the photo's edge",
    "looks_grey": "the face has no colour",
    "channels_swapped?": "red and blue may be swapped",
    "outside_training_range": "brighter, darker or flatter than nearly all training images",
    "child": "probably a child: gender is not reliable",
}


def html(picture: Picture, maps: Sequence[Sequence[tuple[str, Any]]]) -> str:
    """Return HTML about a picture with its preview.

    Args:
      maps: (name of a net, explain.maps.Maps of the face alone) of each net, for each of the first faces.
    """
    photo = None
    if picture.preview is not None:
        letters = max(11, round(LETTERS * max(picture.preview.shape)))
        photo = _uri(gallery.annotated(picture, _label, letters))
    faces = [
        {"face": face, "chip": _picture(face.chip), "warnings": _warnings(face), "nets": _nets(face, of_face)}
        for face, of_face in zip(picture.faces, [*maps, *[()] * len(picture.faces)], strict=False)
    ]
    template = ENVIRONMENT.get_template("photo_predictions.html.jinja")
    return template.render(picture=picture, photo=photo, faces=faces, explained=len(maps))


def message(text: str) -> str:
    """Return HTML with a message instead of predictions."""
    return ENVIRONMENT.get_template("photo_predictions.html.jinja").render(message=text)


def _label(index: int, face: Face) -> str:
    return f"{index + 1}: {face.age:.0f}, {face.gender}"


def _warnings(face: Face) -> list[str]:
    return [WARNINGS[flag] for flag in face.flags]


def _nets(face: Face, maps: Sequence[tuple[str, Any]]) -> list[dict[str, Any]]:
    """Return the name of each net and its maps: {"picture", "title"}."""
    nets = []
    for name, of_net in maps:
        rows = []
        for head, attributions in of_net.attributions.items():
            predicted, _ = of_net.prediction(head, 0)
            for method, values in attributions.items():
                rows.append((values[0], f"{head} {predicted}: {formatting.map_name(method)}", overlay.scale(method)))
        rows += [(module.mean[0], f"attention {module.name}", "mask") for module in of_net.attention]
        panels = [
            {"title": title, "picture": _picture(overlay.blended(Panel(face.sized[len(values)], title, values, scale)))}
            for values, title, scale in rows
        ]
        nets.append({"name": name, "maps": panels})
    return nets


def _picture(pixels: np.ndarray) -> str:
    image = Image.fromarray(pixels)
    if max(image.size) < SIDE:
        image = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return _uri(jpeg.encode(image))


def _uri(content: bytes) -> str:
    return f"data:image/jpeg;base64,{jpeg.text(content)}"
