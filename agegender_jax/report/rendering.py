"""The jinja2 environment of all templates: Markdown is inserted unchanged, everything else is escaped for HTML."""

import jinja2

from agegender_jax import files
from agegender_jax.report import formatting, paper
from agegender_jax.report.runs import command_line

ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("agegender_jax.report"),
    autoescape=lambda name: name is None or not name.endswith(".md.jinja"),
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters |= {
    "number": formatting.number,
    "plain": formatting.plain,
    "printable": files.printable,
    "cell": lambda text: str(text).replace("|", "\\|"),  # of a Markdown table
}
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
