"""Age buckets, gender and race codes, and the label of a face.

Codes and names: UTKFace (Zhang, Song, Qi 2017). Buckets of ten years: arXiv 2010.03791.
"""

import dataclasses

AGE_BUCKETS = tuple(f"{a}-{a + 9}" for a in range(0, 110, 10)) + ("110+",)
NUM_AGE_BUCKETS = len(AGE_BUCKETS)
GENDERS = ("male", "female")
RACES = ("White", "Black", "Asian", "Indian", "Others")


def age_bucket(age_years: int) -> int:
    """Return the index of the ten-year bucket: age // 10, with everything from 110 up in the last bucket."""
    return min(age_years // 10, NUM_AGE_BUCKETS - 1)


@dataclasses.dataclass(frozen=True)
class Label:
    """The label of one face: perceived gender and race, and apparent age.

    Attributes:
      age_text: integer years as text, or the group's text ("20-29") for grouped labels.
      age_years: years, or -1 if only a group is known.
      age_first, age_last: first and last bucket that count as correct.
      gender: index into GENDERS.
      race: index into RACES.
      race_text: the source's own word for it.
    """

    age_text: str
    age_years: int
    age_first: int
    age_last: int
    gender: int
    race: int
    race_text: str
