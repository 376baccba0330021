import os

import pytest

from agegender_jax.data.utkface import parse_utkface_name, remark
from agegender_jax.labels import RACES, Label

DATE = "20170116174525125"
MALE, FEMALE = 0, 1
WHITE, BLACK, ASIAN, INDIAN, OTHERS = range(5)

GOOD = {
    f"25_0_1_{DATE}.jpg.chip.jpg": (25, MALE, BLACK),
    f"1_1_0_{DATE}.jpg": (1, FEMALE, WHITE),
    f"0_1_2_{DATE}.jpg": (0, FEMALE, ASIAN),
    f"110_0_3_{DATE}.jpg.chip.jpg": (110, MALE, INDIAN),
    f"116_1_4_{DATE}.JPG": (116, FEMALE, OTHERS),
    f"120_1_0_{DATE}.png": (120, FEMALE, WHITE),
    f"007_1_0_{DATE}.webp": (7, FEMALE, WHITE),
    "14_0_0_2017011022340900.jpg.chip.jpg": (14, MALE, WHITE),
    "28_1_2_201701161846515488.jpg.chip.jpg": (28, FEMALE, ASIAN),
    "44_1_4_20170116235150272.pg.chip.jpg": (44, FEMALE, OTHERS),
}
MALFORMED = {
    "61_1_20170109142408075": (61, FEMALE, BLACK),
    "61_3_20170109150557335": (61, FEMALE, INDIAN),
    "61_1_20170109150557335": (61, FEMALE, INDIAN),
    "24_0_1_20170116220224657 ": (24, MALE, BLACK),
    "39_1_20170116174525125": (39, MALE, BLACK),
    "55_0_0_20170116232725357jpg": (55, MALE, WHITE),
    "53__0_20170116184028385": (53, FEMALE, WHITE),
}
REJECTED = {
    f"999_0_1_{DATE}.jpg": "age 999 is outside 0 to 120",
    f"121_0_1_{DATE}.jpg": "age 121",
    f"-1_0_1_{DATE}.jpg": "age -1",
    f"25_3_1_{DATE}.jpg": "gender 3 is outside 0 to 1",
    f"25_-1_1_{DATE}.jpg": "gender -1",
    f"25_0_5_{DATE}.jpg": "race 5 is outside 0 to 4",
    f"25.5_0_1_{DATE}.jpg": "1 of the 4 parts",
    f"25_1_{DATE}.jpg.chip.jpg": "3 of the 4 parts",
    "25_1.jpg": "2 of the 4 parts",
    "25.jpg": "1 of the 4 parts",
    ".jpg": "1 of the 4 parts",
    "holiday.jpg": "1 of the 4 parts",
    f"25_0_1_2_{DATE}.jpg": "5 of the 4 parts",
    f"53__1_{DATE}.jpg": "gender '' is not a number",
    f"_0_1_{DATE}.jpg": "age ''",
    f"25_0__{DATE}.jpg": "race ''",
    "25_0_1_.jpg": "date ''",
    "25_0_1_yesterday.jpg": "date 'yesterday'",
    f"25 years_0_1_{DATE}.jpg": "age '25 years'",
    f"2 5_0_1_{DATE}.jpg": "age '2 5'",
    f"25\n_0_1_{DATE}.jpg": r"age '25\n'",
    f"25_\N{GRINNING FACE}_1_{DATE}.jpg": r"gender '\U0001f600'",
    f"\N{ARABIC-INDIC DIGIT TWO}5_0_1_{DATE}.jpg": "age ",
    f"twenty_male_black_{DATE}.jpg": "age 'twenty'",
    os.fsdecode(b"2\xff5_0_1_" + DATE.encode() + b".jpg"): r"age '2\udcff5'",
    f"{'9' * 240}_0_1_1.jpg": "is not a number",
    f"0x19_0_1_{DATE}.jpg": "age '0x19'",
    f"+25_0_1_{DATE}.jpg": "age '+25'",
    f"25-0-1-{DATE}.jpg": "1 of the 4 parts",
}


def expected(age: int, gender: int, race: int) -> Label:
    bucket = min(age // 10, 11)
    return Label(str(age), age, bucket, bucket, gender, race, RACES[race])


@pytest.mark.parametrize("name", GOOD)
def test_well_formed_names(name):
    assert parse_utkface_name(name) == expected(*GOOD[name])


@pytest.mark.parametrize("suffix", ["", ".jpg", ".jpg.chip.jpg"])
@pytest.mark.parametrize("stem", MALFORMED)
def test_malformed_names_of_the_distributed_sets(stem, suffix):
    assert parse_utkface_name(stem + suffix) == expected(*MALFORMED[stem])


@pytest.mark.parametrize("suffix", ["", ".jpg", ".jpg.chip.jpg"])
@pytest.mark.parametrize("stem", MALFORMED)
def test_malformed_names_have_remarks(stem, suffix):
    expected = {"24": "a space beside the label", "55": "no dot before the suffix"}
    assert remark(stem + suffix) == expected.get(stem[:2]) or remark(stem + suffix).startswith(
        f"malformed, known to be {stem[:2]}, "
    )


@pytest.mark.parametrize("name", GOOD)
def test_only_unusual_dates_of_regular_names_have_remarks(name):
    odd = {"14_0_0_2017": "date of 16 digits, not 17", "28_1_2_2017": "date of 18 digits, not 17"}
    assert remark(name) == odd.get(name[:11])


@pytest.mark.parametrize("name", REJECTED)
def test_rejected_names_have_a_reason(name):
    reason = parse_utkface_name(name)
    assert isinstance(reason, str) and REJECTED[name] in reason
    assert reason.isascii() and reason.isprintable() and len(reason) < 110
