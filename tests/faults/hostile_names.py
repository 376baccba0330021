"""Hostile names of files, folders and runs: no page, table, Markdown or terminal output is more than text."""

import contextlib
import csv
import html.parser
import io
import pathlib
import re

import tiny_runs

from agegender_jax.run import evaluate
from tests.faults.registry import Outcome, point

OPTIONS = {"source": None, "split": "all", "checkpoint": "best", "allow_leak": True, "draw": False}
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
NAMES = (
    "=cmd|' C calc'!A0",
    "<img src=x onerror=alert(1)>",
    "[bold red]x[nothing][:none]",
    "a`b|c*d_[e](javascript:alert(1))",
    "\x1b[2J\x1b]0;title\x07",
    "line\nbreak\r\n# heading",
    "@SUM(1)\t+1",
    "'\"><script>alert(1)<!script>",
    "{{ 7 * 7 }}{% for x in y %}${HOME}$(x)",
    "-rf --help",
)


class Tags(html.parser.HTMLParser):
    """Collects what a name may not become: scripts, attributes that run code, pictures from elsewhere."""

    def __init__(self):
        super().__init__()
        self.bad = []

    def handle_starttag(self, tag, attributes):
        for key, value in attributes:
            if key.startswith("on") or "javascript:" in (value or "") or key == "src" and not value.startswith("data:"):
                self.bad.append(f"<{tag} {key}={value[:40]}>")


def page_problems(text):
    tags = Tags()
    tags.feed(text)
    scripts = re.findall(r"<script[^>]*>[^<]*alert", text)
    return tags.bad + scripts + (["control characters"] if re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", text) else [])


def csv_problems(text):
    rows = csv.reader(io.StringIO(text))
    return [f"the cell {cell!r}" for row in rows for cell in row if cell.startswith(FORMULAS) and not is_number(cell)]


def is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def markdown_problems(text):
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)  # YAML
    text = re.sub(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", "code", text)
    problems = re.findall(r"<(?:img|script)[^>]*>|(?<!\\)\]\(javascript:[^)]*\)", text)
    problems += ["a heading"] if re.search(r"^# heading", text, re.MULTILINE) else []
    return problems + (["control characters"] if re.search(r"[\x00-\x08\x0b-\x1f]", text) else [])


def terminal_problems(text):
    return [f"{character!r}" for character in re.findall(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", text)]


CHECKS = {".html": page_problems, ".csv": csv_problems, ".md": markdown_problems}


@point("hostile names: HTML, CSV, Markdown and the terminal show them as text", push=1, release=10)
def shown(trials, rng, folder):
    failures = []
    for i, name in enumerate(rng.sample(NAMES, trials)):
        place = folder / str(i)
        config = tiny_runs.make_config(place, 40)
        inner = place / "faces" / name
        inner.mkdir()
        for image in sorted((place / "faces").glob("*.jpg"))[::2]:
            image.rename(inner / image.name)
        (place / "faces" / f"{name}.jpg").write_bytes(b"")
        (place / "faces").rename(place / name)
        config.data.source, config.data.max_bad = str(place / name), 0.1
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                run = tiny_runs.make_run(place / "runs" / (name if name.isprintable() else "run"), config)
                evaluate.evaluate([str(run)], out=str(place / "out"), **OPTIONS)
        except Exception as error:
            failures.append(f"{name!r}: {type(error).__name__} {error}")
        failures += [f"{name!r} in the terminal: {text}" for text in terminal_problems(printed.getvalue())]
        for path in pathlib.Path(place).rglob("*"):
            if path.suffix in CHECKS and path.is_file():
                text = path.read_bytes().decode("utf-8", "surrogateescape")
                failures += [f"{name!r} in {path.name}: {problem}" for problem in CHECKS[path.suffix](text)]
    return Outcome(trials, failures)
