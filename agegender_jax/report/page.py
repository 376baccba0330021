"""report.html: a self-contained file."""

import base64
import io
import re
from collections.abc import Mapping, Sequence

from PIL import Image

from agegender_jax.report.captions import ALTERNATIVE, ATTENTION, CAPTIONS
from agegender_jax.report.jinja_environment import ENVIRONMENT
from agegender_jax.report.paper_comparison import compare_protocols
from agegender_jax.report.runs import Run, command_line, is_synthetic
from agegender_jax.report.warnings import warnings

READABLE = 0.8  # smallest scale of a figure: its 8-point letters are 10 pixels high then
LARGE = 300_000  # bytes from which a PNG is also tried as JPEG


def page(
    results: dict,
    figures: Mapping[str, bytes],
    runs: Sequence[Run],
    command: Sequence[str] = (),
    sections: Sequence[Mapping] = (),
) -> str:
    """Return the report as HTML.

    Args:
      results: value of results.json.
      figures: PNG bytes by file name. Those in CAPTIONS and attention_<member>.png have fixed positions; others are
        shown in the section that names them.
      runs: of the members.
      command: arguments of the program that evaluated them.
      sections: additional sections, each {"title": str, "text": [paragraph], "figures": {file name: caption},
        "headings": [str], "rows": [[str]]}; everything but the title is optional.
    """
    commands = [*(run.run.get("command") for run in runs), command]
    images = {name: _embed(name, png) for name, png in figures.items()}
    return ENVIRONMENT.get_template("report.html.jinja").render(
        r=results,
        last=results["models"][-1],
        images=images,
        runs=runs,
        commands=list(dict.fromkeys(map(command_line, filter(None, commands)))),
        sections=sections,
        masks=[name for name in figures if name.startswith("attention_")],
        illustrated=any(name in CAPTIONS for name in figures),
        warnings=warnings(results, runs),
        protocol=compare_protocols(results, runs),
        synthetic=is_synthetic(results["source"]["name"]),
        free=all(run.is_free() for run in runs),
    )


def is_figure(name: str) -> bool:
    """Return whether a file with this name in `figures/` is one that the library writes."""
    return (
        name in CAPTIONS
        or re.fullmatch(r"(attention|explanations|patches|relevance)_.+\.png", name, re.DOTALL) is not None
    )


def _embed(name: str, png: bytes) -> dict:
    """Return the data of a figure for the template; a large one becomes a JPEG if that is smaller."""
    caption, alt = CAPTIONS.get(name, ("", ""))
    if name.startswith("attention_"):
        member = name.removeprefix("attention_").removesuffix(".png")
        caption, alt = ATTENTION[0].format(member), ATTENTION[1]
    alt = ALTERNATIVE.get(name.partition("_")[0], alt)
    kind, data, picture = "png", png, Image.open(io.BytesIO(png))
    if len(png) > LARGE:
        out = io.BytesIO()
        picture.convert("RGB").save(out, "JPEG", quality=88, subsampling=0)
        if len(out.getvalue()) < len(png):
            kind, data = "jpeg", out.getvalue()
    return {
        "uri": f"data:image/{kind};base64,{base64.b64encode(data).decode()}",
        "caption": caption,
        "alt": alt,
        "width": picture.width,
        "least": round(READABLE * picture.width),
    }
