"""Names of files by hypothesis: a label, or a reason in one line; what is made of a name is harmless."""

import hypothesis
from hypothesis import strategies

from agegender_jax import csv_cells, files, names
from agegender_jax.data import listing
from agegender_jax.data.utkface import MAX_AGE, parse_utkface_name, remark
from agegender_jax.labels import Label
from tests.faults.registry import Outcome, point

NUMBERS = strategies.integers(-(10**20), 10**20).map(str)
PARTS = strategies.one_of(NUMBERS, strategies.integers(0, 120).map(str), strategies.text(max_size=12))
SURROGATES = strategies.characters(min_codepoint=0, max_codepoint=0x10FFFF, categories=None)
NAMES = strategies.one_of(
    strategies.lists(PARTS, max_size=6).map("_".join),
    strategies.tuples(strategies.lists(PARTS, max_size=5).map("_".join), strategies.text(max_size=8)).map(".".join),
    strategies.text(SURROGATES, max_size=60),
)
VALID = strategies.tuples(*(strategies.integers(0, last) for last in (MAX_AGE, 1, 4, 10**17)))


def check(name, valid):
    label = parse_utkface_name(name)
    if isinstance(label, Label):
        assert 0 <= label.age_years <= MAX_AGE and label.gender in (0, 1) and 0 <= label.race <= 4
        assert remark(name) is None or remark(name).isprintable()
    else:
        assert label and label.isprintable() and len(label) < 200
    age, gender, race, date = valid
    label = parse_utkface_name(f"{age}_{gender}_{race}_{date}.jpg.chip.jpg")
    assert (label.age_years, label.gender, label.race, label.age_first) == (age, gender, race, min(age // 10, 11))
    inner = listing.inner_path(name)
    assert inner is None or not inner.startswith("/") and ".." not in inner.split("/")
    assert files.printable(name).isprintable() or name == ""
    assert not csv_cells.guard(name).startswith(("=", "+", "-", "@", "\t", "\r"))
    try:
        file = names.file_name(name)
    except UnicodeEncodeError:  # lone surrogates that no file system gives
        assert any(0xD800 <= ord(c) <= 0xDFFF for c in name)
    else:
        assert len(file) < 100 and file.isascii() and "/" not in file and not file.startswith(".")


@point("names by hypothesis: a label or a one-line reason, harmless in pages and files", push=300, release=10000)
def parsed(trials, rng, folder):
    settings = hypothesis.settings(
        max_examples=trials, database=None, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    calls = []

    @hypothesis.seed(rng.getrandbits(32))
    @settings
    @hypothesis.given(NAMES, VALID)
    def run(name, valid):
        calls.append(1)
        check(name, valid)

    try:
        run()
    except Exception as error:
        return Outcome(len(calls), [f"{type(error).__name__} {ascii(str(error))}"[:500]])
    return Outcome(len(calls), [])
