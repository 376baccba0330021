"""Parse labels from UTKFace file names: `[age]_[gender]_[race]_[date&time].jpg.chip.jpg`.

Zhang, Song, Qi 2017. A few of the published names are malformed. `KNOWN` has their labels by stem where they are known;
the others lack a field and are refused.
"""

import re

from agegender_jax.labels import GENDERS, RACES, Label, age_bucket

MAX_AGE = 120
_LAST = {"age": MAX_AGE, "gender": len(GENDERS) - 1, "race": len(RACES) - 1}

# Names that lack a field or hold a wrong one -> (age, gender, race).
KNOWN = {
    "61_1_20170109142408075": (61, 1, 1),
    "61_3_20170109150557335": (61, 1, 3),
    "61_1_20170109150557335": (61, 1, 3),  # the same picture as the line above, as the full set calls it
    "39_1_20170116174525125": (39, 0, 1),
    "53__0_20170116184028385": (53, 1, 0),
}

_NUMBER = re.compile(r"-?[0-9]{1,18}")
_DATE = re.compile(r"[0-9]+(?:jpe?g|png)?")  # `55_0_0_20170116232725357jpg` lacks the dot
DATE_DIGITS = 17  # year to millisecond


def parse_utkface_name(name: str) -> Label | str:
    """Return the label in a file name, or one line that says why there is none.

    Args:
      name: the file's name without its folder, for example `25_0_1_20170116220224657.jpg.chip.jpg`.

    Returns:
      A Label (ages 0 to 120, gender 0 or 1, race 0 to 4), or the reason as text.
    """
    stem = name.split(".", 1)[0].strip()
    if stem in KNOWN:
        return _label(*KNOWN[stem])
    fields = stem.split("_")
    if len(fields) != 4:
        return f"name has {len(fields)} of the 4 parts age_gender_race_date"
    if not _DATE.fullmatch(fields[3]):
        return f"date {_quoted(fields[3])} is not a number"
    for word, text in zip(_LAST, fields, strict=False):
        if not _NUMBER.fullmatch(text):
            return f"{word} {_quoted(text)} is not a number"
    values = [int(text) for text in fields[:3]]
    for (word, last), value in zip(_LAST.items(), values, strict=True):
        if not 0 <= value <= last:
            return f"{word} {value} is outside 0 to {last}"
    return _label(*values)


def remark(name: str) -> str | None:
    """Return what is unusual about a name with a valid label, in one line; None for a regular name."""
    stem = name.split(".", 1)[0]
    date = stem.rpartition("_")[2].strip()
    if stem.strip() in KNOWN:
        age, gender, race = KNOWN[stem.strip()]
        return f"malformed, known to be {age}, {GENDERS[gender]}, {RACES[race]}"
    if stem != stem.strip():
        return "a space beside the label"
    if not date.isdecimal():
        return "no dot before the suffix"
    return None if len(date) == DATE_DIGITS else f"date of {len(date)} digits, not {DATE_DIGITS}"


def _label(age: int, gender: int, race: int) -> Label:
    bucket = age_bucket(age)
    return Label(str(age), age, bucket, bucket, gender, race, RACES[race])


def _quoted(text: str) -> str:
    """Return `text` in quotes, in printable ASCII, cut at 40 characters."""
    return ascii(text[:40])
