"""report.html: one file that loads nothing from elsewhere."""

import base64
import io
import re
from collections.abc import Mapping, Sequence

import jinja2
from PIL import Image

from agegender_jax.report import formatting, paper, protocol
from agegender_jax.report.runs import Run, command_line

CAPTIONS = {  # file: caption, what a person who cannot see it should know
    "curves.png": (
        "Learning curves. Train points are means since the point before, label smoothing included where there is any; "
        "val points are evaluations. A ring marks the checkpoint that is scored here.",
        "Line plots over epochs of loss, age accuracy and gender accuracy, train and val, one colour for each member.",
    ),
    "ages.png": (
        "Ages of all images of the source, by gender (the paper's Fig. 9).",
        "Bar charts: images of each year and of each age group, stacked by gender, with counts.",
    ),
    "grid.png": (
        "Faces of the evaluated split across the age groups, with their labels' years (the paper's Fig. 10).",
        "A grid of faces: age groups from left to right, men in the upper rows, women in the lower ones.",
    ),
    "samples.png": (
        "Sample predictions; wrong ones are orange and bold. The label is below each picture (the paper's Fig. 12).",
        "Faces with the predicted gender and age bucket above each and the label below.",
    ),
    "mistakes.png": (
        "The surest wrong answers of each head, with their probabilities. Real faces' labels may be wrong too.",
        "Faces whose answer was wrong with the highest probability, answer above and label below.",
    ),
    "scores.png": (
        "P(female) of the images of each true class (the paper's Fig. 11). The vertical scale is a root, so that rare "
        "scores show too.",
        "Histogram of the predicted probability of female for male and female faces.",
    ),
    "expected_age.png": (
        "Expected age (bucket probabilities times the buckets' mean train ages) against the label, and its errors.",
        "Density plot of expected against true age with the identity line, and mean errors of five age bands.",
    ),
    "confusion_age.png": (
        "Age buckets, counts and shares of the true class (the paper's Fig. 13). Buckets that never occur are absent.",
        "Two confusion matrices of the age buckets.",
    ),
    "confusion_gender.png": (
        "Gender, counts and shares of the true class (the paper's Fig. 14).",
        "Two confusion matrices of the two genders.",
    ),
    "reliability.png": (
        "Reliability: accuracy of the answers in each bin of confidence, before and after the temperatures, and how "
        "many images each bin holds.",
        "Curves of accuracy against confidence for the age and the gender head, above histograms of confidence.",
    ),
    "groups.png": (
        "Scores of each group with 95 % intervals; hollow where it has fewer than 30 images.",
        "Dot plot of age accuracy, gender accuracy and AABD by gender, race and age group.",
    ),
}
ATTENTION = (
    "Soft masks of {}, mean over channels, one row for each attention module (the paper's Figs. 1 and 15). Linear "
    "up-sampling with aligned corners, the net's own. Each picture has its own scale, dark to bright, given below it: "
    "where the two ends are near each other, the mask hardly varies.",
    "Faces, and below them the same faces under the mask of each attention module.",
)
READABLE = 0.8  # of a figure's pixels: its 8-point letters are 10 pixels high then
EXPLANATIONS = "Faces, one in each row, under the maps of every method for the age and for the gender answer."
LARGE = 300_000  # bytes; photographs as PNG are many times as large as they need be
ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("agegender_jax.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)
ENVIRONMENT.filters |= {"number": formatting.number, "plain": formatting.plain}
ENVIRONMENT.globals |= {
    "SCORES": formatting.SCORES,
    "MAIN": formatting.MAIN,
    "paper": paper,
    "estimate": formatting.estimate,
    "interval": formatting.interval,
    "difference": formatting.difference,
    "is_clear": formatting.is_clear,
    "command_line": command_line,
}


def page(
    found: dict,
    figures: Mapping[str, bytes],
    runs: Sequence[Run],
    command: Sequence[str] = (),
    sections: Sequence[Mapping] = (),
) -> str:
    """The report of a results dict.

    Args:
      figures: PNG bytes by file name; those of CAPTIONS and attention_<member>.png have their places, the others are
        shown where a section names them.
      runs: of the members. command: arguments of the program that scored them.
      sections: further ones, each {"title": str, "text": [paragraph], "figures": {file name: caption},
        "headings": [str], "rows": [[str]]}, all but the title optional.
    """
    images = {name: _image(name, png) for name, png in figures.items()}
    return ENVIRONMENT.get_template("report.html.jinja").render(
        r=found,
        last=found["models"][-1],
        images=images,
        runs=runs,
        command=command,
        sections=sections,
        masks=[name for name in figures if name.startswith("attention_")],
        illustrated=any(name in CAPTIONS for name in figures),
        warnings=protocol.warnings(found, runs),
        protocol=protocol.beside_paper(found, runs),
        drawn=protocol.is_drawn(found["source"]["name"]),
        free=all(map(protocol.is_free, runs)),
    )


def is_figure(name: str) -> bool:
    """Whether a file of this name in `figures/` is one that the library draws."""
    return name in CAPTIONS or re.fullmatch(r"(attention|explanations)_.+\.png", name, re.DOTALL) is not None


def _image(name: str, png: bytes) -> dict:
    """What the template needs of a figure: large ones go in as JPEG where that is smaller, the others as they are."""
    caption, alt = CAPTIONS.get(name, ("", ""))
    if name.startswith("attention_"):
        member = name.removeprefix("attention_").removesuffix(".png")
        caption, alt = ATTENTION[0].format(member), ATTENTION[1]
    if name.startswith("explanations_"):
        alt = EXPLANATIONS
    kind, data, picture = "png", png, Image.open(io.BytesIO(png))
    if len(png) > LARGE:
        out = io.BytesIO()
        picture.convert("RGB").save(out, "JPEG", quality=88, subsampling=0)
        if len(out.getvalue()) < len(png):
            kind, data = "jpeg", out.getvalue()
    uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return {
        "uri": uri,
        "caption": caption,
        "alt": alt,
        "width": picture.width,
        "least": round(READABLE * picture.width),
    }
