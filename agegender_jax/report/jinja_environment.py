"""The jinja2 environment of all templates: Markdown is inserted unchanged, everything else is escaped for HTML."""

import re
from collections.abc import Callable
from typing import Any

import jinja2

from agegender_jax import files
from agegender_jax.report import formatting, paper
from agegender_jax.report.runs import command_line

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def _without_control_characters(value: Any) -> Any:
    """Return a value to insert into a template, with control characters of names escaped."""
    if isinstance(value, str) and _CONTROL.search(value):
        return type(value)(_CONTROL.sub(lambda match: files.printable(match[0]), value))
    return value


ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("agegender_jax.report"),
    autoescape=jinja2.select_autoescape(default_for_string=True, default=True, disabled_extensions=("md.jinja",)),
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=_without_control_characters,
)
_FILTERS: dict[str, Callable[..., str]] = {
    "number": formatting.number,
    "plain": formatting.plain,
    "printable": files.printable,
    "markdown": formatting.markdown,
    "code": formatting.code,
}
ENVIRONMENT.filters |= _FILTERS
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
