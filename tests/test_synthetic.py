import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from agegender_jax.data import synthetic
from agegender_jax.data.face_traits import sample_traits
from agegender_jax.data.utkface import parse_utkface_name
from agegender_jax.labels import GENDERS, RACES

SIZE = 64


def face(age_years, gender, race=0, seed=0, size=SIZE):
    return synthetic.draw_face(np.random.default_rng([7, seed]), age_years, gender, race, size)


def mean_trait(name, age_years, gender, num=300):
    values = [getattr(sample_traits(np.random.default_rng(i), age_years, gender, 0), name) for i in range(num)]
    return float(np.mean(values))


def labels(num):
    return [synthetic.sample_label(np.random.default_rng([0, index])) for index in range(num)]


def test_files_carry_the_labels_drawn_and_decode(tmp_path):
    paths = synthetic.write_faces(tmp_path, 60, seed=0, size=SIZE)
    assert sorted(paths) == sorted(tmp_path.iterdir())
    for path, (age_years, gender, race) in zip(paths, labels(60), strict=True):
        label = parse_utkface_name(path.name)
        assert (label.age_years, label.gender, label.race) == (age_years, gender, race)
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (SIZE, SIZE))
            assert np.asarray(image).std() > 5


def test_a_face_depends_on_seed_index_and_size_alone(tmp_path):
    few, more, other = (
        {path.name: path.read_bytes() for path in synthetic.write_faces(tmp_path / name, num, seed, SIZE)}
        for name, num, seed in (("few", 5, 3), ("more", 9, 3), ("other", 9, 4))
    )
    assert few.items() <= more.items() and len(more) == 9
    assert not set(more.values()) & set(other.values())


def test_no_bucket_is_large_and_every_gender_and_race_appears():
    ages, genders, races = np.array(labels(3000)).T
    assert ages.min() >= 0 and ages.max() <= 95
    shares = np.bincount(ages // 10, minlength=10) / len(ages)
    assert shares.max() <= 0.20 and shares.min() > 0
    assert np.allclose(shares, synthetic.AGE_SHARES, atol=0.025)
    assert np.allclose(np.bincount(genders, minlength=len(GENDERS)) / len(genders), 0.5, atol=0.03)
    assert np.allclose(np.bincount(races, minlength=len(RACES)) / len(races), synthetic.RACE_SHARES, atol=0.03)


@pytest.mark.parametrize("gender", range(len(GENDERS)))
@pytest.mark.parametrize("age_years", [0, 8, 16, 30, 55, 95])
def test_pictures_and_regions(age_years, gender):
    for race in range(len(RACES)):
        picture, masks = face(age_years, gender, race, seed=age_years)
        assert picture.shape == (SIZE, SIZE, 3) and picture.dtype == np.uint8
        assert {"head", "eyes", "nose", "mouth"} <= set(masks)
        for mask in masks.values():
            assert mask.shape == (SIZE, SIZE) and mask.dtype == bool and mask.any() and not mask.all()
        for part in {"eyes", "nose", "mouth", "brows", "wrinkles", "spots"} & set(masks):
            assert masks[part].sum() < 0.5 * masks["head"].sum()


# region -> the traits that draw it; (age, gender) where it shows
CUES = {
    "wrinkles": (("forehead_lines", "crow_feet", "eye_bags", "folds", "mouth_lines"), (80, 0)),
    "spots": (("spots",), (90, 1)),
    "beard": (("beard", "moustache"), (30, 0)),
    "glasses": (("glasses",), (60, 1)),
    "earrings": (("earrings",), (30, 1)),
    "bow": (("bow",), (6, 1)),
}


@pytest.mark.parametrize("region", CUES)
def test_a_region_is_where_the_picture_changes(region, monkeypatch):
    traits, (age_years, gender) = CUES[region]

    def without(*args):
        return dataclasses.replace(sample_traits(*args), **dict.fromkeys(traits, 0))

    monkeypatch.setattr(synthetic, "_photograph", lambda rng, chance, picture: picture)
    shown = 0
    for seed in range(12):
        monkeypatch.setattr(synthetic, "sample_traits", sample_traits)
        picture, masks = face(age_years, gender, seed=seed)
        monkeypatch.setattr(synthetic, "sample_traits", without)
        plain, _ = face(age_years, gender, seed=seed)
        if region not in masks or region == "spots" and "glasses" in masks:
            continue
        change = np.abs(picture - plain).sum(0)
        assert change[masks[region]].mean() > 0.05
        assert change[masks[region]].mean() > 3 * change[~masks[region]].mean()
        shown += 1
    assert shown >= 2


def test_age_and_gender_act_together():
    assert mean_trait("recede", 60, 0) > 0.2 and mean_trait("recede", 60, 1) == 0
    assert mean_trait("beard", 30, 0) > 0.2 and mean_trait("beard", 30, 1) == mean_trait("beard", 8, 0) == 0
    assert mean_trait("folds", 45, 1) > mean_trait("folds", 45, 0) + 0.1  # men's skin wrinkles later
    assert mean_trait("grey", 65, 0) > mean_trait("grey", 65, 1) + 0.1  # some women dye their hair
    thicker = [mean_trait("brow_thick", 80, gender) - mean_trait("brow_thick", 30, gender) for gender in (0, 1)]
    assert thicker[0] > 0.005 and thicker[1] < 0
    assert mean_trait("bow", 6, 1) > 0.4 > 0.1 > mean_trait("bow", 40, 1) and mean_trait("bow", 6, 0) == 0


@pytest.mark.parametrize("trait", ["grey", "forehead_lines", "crow_feet", "eye_bags", "folds", "ear_size"])
@pytest.mark.parametrize("gender", range(len(GENDERS)))
def test_cues_of_age_grow(trait, gender):
    early, middle, late = (mean_trait(trait, age, gender) for age in (15, 50, 85))
    assert early < middle < late
