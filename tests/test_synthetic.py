import io

import numpy as np
import pytest
from PIL import Image

from agegender_jax import synthetic
from agegender_jax.data.utkface import parse_utkface_name
from agegender_jax.labels import GENDERS, RACES
from agegender_jax.synthetic import faces
from agegender_jax.synthetic.parts import Canvas
from agegender_jax.synthetic.traits import sample_traits

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


def test_a_face_depends_only_on_seed_index_and_size(tmp_path):
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


def test_a_written_file_has_its_masks(tmp_path, monkeypatch):
    drawn, draw = [], synthetic.draw_face
    paths = synthetic.write_faces(tmp_path, 8, seed=12345678, size=SIZE)
    monkeypatch.setattr(faces, "draw_face", lambda *args: drawn.append(draw(*args)) or drawn[-1])
    result = [synthetic.masks(path.name, SIZE) for path in paths]
    for index, path in enumerate(paths):
        errors = [np.abs(np.asarray(Image.open(path), float) - picture).mean() for picture, _ in drawn]
        assert errors[index] < 7 < 16 < min(errors[:index] + errors[index + 1 :])
        assert result[index] is drawn[index][1]


def test_masks_refuse_names_of_other_files(tmp_path):
    (path,) = synthetic.write_faces(tmp_path, 1, seed=5, size=SIZE)
    age_years, rest = path.name.split("_", 1)
    (lost,) = synthetic.write_faces(tmp_path, 1, seed=5 + 10**8, size=SIZE)
    other = f"{int(age_years) + 1}_{rest}", f"0{path.name}", lost.name
    for name in (*other, str(path), path.name + "\n", path.name.removesuffix(".jpg"), "25_0_1_20170116.jpg", ""):
        with pytest.raises(ValueError, match="drawn face"):
            synthetic.masks(name, SIZE)


PAINT, TINT = Canvas.paint, Canvas.tint


def shares(label, seed):
    """The masks of a face; for each region the share 0..1 of every pixel that its paint, or its parts', holds."""

    def draw(white):
        def paint(canvas, cover, colour, region=None, **hides):
            PAINT(canvas, cover, (white in (region, hides.get("part_of")),) * 3, region, **hides)

        def tint(canvas, cover, gain, region=None):
            PAINT(canvas, cover, (1, 1, 1), region) if region == white else TINT(canvas, cover, 1, region)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Canvas, "paint", paint)
            patch.setattr(Canvas, "tint", tint)
            patch.setattr(faces, "_photograph", lambda rng, chance, picture: picture[0])
            return face(*label, seed=seed, size=48)

    black, masks = draw("none")
    return masks, {name: draw(name)[0] - black for name in masks}


def test_a_region_is_what_is_visible():
    """A mark needs a quarter's cover; each layer above leaves more than half of it or takes the mark."""
    seen = set()
    for seed, label in enumerate(labels(60)):
        masks, share = shares(label, seed)
        seen |= set(masks)
        for name, mask in masks.items():
            assert share[name][mask].min() > 0.05, name
            around = masks.get("beard", mask) if name == "head" else mask  # a beard grows beyond the jaw
            assert share[name][~(mask | around)].max() < 0.7, name
    assert seen >= {"head", "hair", "ears", "neck", "eyes", "brows", "nose", "mouth", *CUES}


# region -> (age, gender) where it shows
CUES = {
    "wrinkles": (80, 0),
    "spots": (90, 1),
    "brows": (80, 0),
    "beard": (30, 0),
    "glasses": (60, 1),
    "earrings": (30, 1),
    "bow": (6, 1),
}


@pytest.mark.parametrize("region", CUES)
def test_a_region_is_where_the_picture_changes(region, monkeypatch):
    def without(draw):
        return lambda *args, **hides: draw(*args, **hides) if args[3:] != (region,) else None

    monkeypatch.setattr(faces, "_photograph", lambda rng, chance, picture: picture)
    shown = 0
    for seed in range(12):
        picture, masks = face(*CUES[region], seed=seed)
        with monkeypatch.context() as patch:
            patch.setattr(Canvas, "paint", without(PAINT))
            patch.setattr(Canvas, "tint", without(TINT))
            plain, rest = face(*CUES[region], seed=seed)
        assert region not in rest
        change = np.abs(picture - plain).sum(0)
        if region not in masks:
            continue
        assert change[masks[region]].mean() > 0.05
        assert change[masks[region]].mean() > 20 * change[~masks[region]].mean()
        shown += 1
    assert shown >= 2


def test_age_and_gender_interact():
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
