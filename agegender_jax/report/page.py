"""report.html: one file that loads nothing from elsewhere."""

import base64
from collections.abc import Sequence

import jinja2

from agegender_jax.report.results import rows

CAPTIONS = {
    "curves.png": "Learning curves. Train points are means since the point before; val points are evaluations.",
    "samples.png": "Sample predictions; wrong ones are orange. The label is below each picture.",
    "confusion_age.png": "Age buckets: counts, coloured by the share of the true class.",
    "confusion_gender.png": "Gender: counts, coloured by the share of the true class.",
}
ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("agegender_jax.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


def page(results: dict, figures: dict[str, bytes], sections: Sequence[dict] = ()) -> str:
    """The report of a results dict, figures (PNG bytes by name) inside.

    Args:
      sections: as `explanations` gives them, with figures of their own.
    """
    images = [_image(figures[name], caption) for name, caption in CAPTIONS.items() if name in figures]
    sections = [s | {"images": [_image(figures[name], text) for name, text in s["figures"].items()]} for s in sections]
    template = ENVIRONMENT.get_template("report.html.jinja")
    return template.render(r=results, rows=rows(results), images=images, sections=sections)


def _image(png: bytes, caption: str) -> dict[str, str]:
    return {"caption": caption, "uri": "data:image/png;base64," + base64.b64encode(png).decode()}
