"""Find the numbers of a text that are not in any file."""

import re

NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)*(?:e[-+]?\d+)?")
OF_THE_METHOD = {  # describe the method: intervals, small groups, minors, CS@5, Apache-2.0
    *("95", "30", "18", "18s", "5", "2.0"),
}


def untraced(text: str, *files) -> set[str]:
    """Return the numbers of a text that match no value in the files, also rounded, with commas or with a sign."""
    known = set(OF_THE_METHOD)
    for value in _leaves(files):
        if isinstance(value, bool) or value is None:
            continue
        if isinstance(value, int | float):
            forms = ("{}", "{:g}", "{:.2f}", "{:.3f}", "{:,}")
            known |= {form.format(value) for form in forms}
        else:
            known |= set(_numbers(str(value)))
    return set(_numbers(text)) - known


def _numbers(text):
    return [number.rstrip(",") for number in NUMBER.findall(text)]


def _leaves(value):
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from _leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value
