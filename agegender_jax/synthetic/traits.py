"""Sample the traits of a synthetic face, given its age, gender and race.

Every cue depends on the age with its own random error (`Chance.seen`), so that no single cue is decisive, and several
together show the age to within about one bucket. Some cues indicate different ages in men and women: balding, beards
and bushy brows occur in men, dyed hair, make-up and thinning brows in women, and wrinkles begin later in men.
"""

import dataclasses

import numpy as np

# Skin and hair colours (RGB in 0..1), in the order of labels.RACES; chosen by the author of this file.
SKIN = ((0.93, 0.75, 0.65), (0.45, 0.30, 0.23), (0.91, 0.74, 0.58), (0.68, 0.48, 0.35), (0.80, 0.61, 0.47))
DARK_HAIR = ((0.10, 0.08, 0.08), (0.17, 0.11, 0.08), (0.24, 0.15, 0.10))
FAIR_HAIR = ((0.42, 0.26, 0.14), (0.62, 0.45, 0.24), (0.80, 0.66, 0.40), (0.55, 0.24, 0.12), *DARK_HAIR)
DYED_HAIR = ((0.55, 0.20, 0.14), (0.84, 0.72, 0.48), (0.36, 0.18, 0.22), *DARK_HAIR)
IRIS = ((0.33, 0.48, 0.60), (0.38, 0.47, 0.30), (0.32, 0.19, 0.10))


def ramp(x: float, first: float, last: float) -> float:
    """Return 0 up to `first`, 1 from `last` on, and a linear transition between them."""
    return min(max((x - first) / (last - first), 0.0), 1.0)


class Chance:
    """Random Python floats from a numpy Generator, for a face of an age in years."""

    def __init__(self, rng: np.random.Generator, age_years: float):
        self.rng, self.age_years = rng, age_years

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * float(self.rng.random())

    def bell(self, mean: float, deviation: float) -> float:
        """Return a nearly normal number, never beyond three deviations."""
        return mean + deviation * (2 * float(self.rng.random(3).sum()) - 3)

    def yes(self, probability: float) -> bool:
        return float(self.rng.random()) < probability

    def pick(self, options):
        return options[int(self.rng.random() * len(options))]

    def colour(self, rgb, spread: float) -> tuple[float, float, float]:
        """Return `rgb` with one common and three separate changes of brightness."""
        common = self.bell(0, spread)
        return tuple(min(max(c * (1 + common + self.bell(0, spread / 3)), 0.03), 1.0) for c in rgb)

    def seen(self, first: float, last: float, error: float = 4.0) -> float:
        """Return the progress, 0..1, of a cue from age `first` to `last`, with an error in years."""
        return ramp(self.bell(self.age_years, error), first, last)


@dataclasses.dataclass(frozen=True)
class Traits:
    """The traits of one face. Lengths are in half head heights; strengths and shares are in 0..1."""

    skin: tuple
    hair: tuple
    iris: tuple
    lips: tuple
    head_width: float
    jaw_square: float
    jaw_taper: float
    eye_level: float
    eye_width: float
    eye_open: float
    lashes: float
    shadow: float
    brow_thick: float
    brow_arch: float
    brow_gap: float
    nose_length: float
    nose_width: float
    mouth_width: float
    lip_full: float
    smile: float
    teeth: bool
    ear_size: float
    neck_width: float
    hair_length: float
    hair_volume: float
    hairline: float
    recede: float
    sparse: float
    bangs: bool
    curly: bool
    grey: float
    beard: float
    moustache: float
    beard_grey: float
    forehead_lines: float
    crow_feet: float
    eye_bags: float
    folds: float
    mouth_lines: float
    spots: float
    blush: float
    glasses: bool
    earrings: bool
    bow: bool


def sample_traits(rng: np.random.Generator, age_years: int, gender: int, race: int) -> Traits:
    """Return a random face. gender: 0 male, 1 female. race: index into labels.RACES."""
    c = Chance(rng, age_years)
    female = gender == 1
    young = 1 - c.seen(0, 17, 1.5)  # the proportions of a baby: 1 at birth, 0 once grown
    adult = c.seen(11, 18, 1.5)  # difference of the genders: 0 before puberty, 1 after
    sex = c.bell(1.0 if female else -1.0, 0.40) * (0.35 + 0.65 * adult)  # bones: -1 male, 1 female
    late = 0 if female else 8  # men's skin wrinkles later
    dyed = female and c.yes(0.5 * ramp(age_years, 35, 45))
    palette = DYED_HAIR if dyed else FAIR_HAIR if race in (0, 4) else DARK_HAIR
    grey = 0.0 if dyed else c.seen(34, 74)
    made_up = adult * (0.85 if female else 0.02) * (1 - 0.5 * ramp(age_years, 45, 80))
    lipstick = c.yes(made_up)
    skin = c.colour(SKIN[race], 0.10)
    lip_tint = c.pick(((0.75, 0.12, 0.18), (0.82, 0.30, 0.38), (0.40, 0.08, 0.22), (0.93, 0.62, 0.66)))
    natural = tuple(0.6 * s + 0.4 * t for s, t in zip(skin, (0.74, 0.28, 0.28), strict=True))
    bald = 0.0 if female or not c.yes(0.75) else c.seen(24, 72) * c.between(0.6, 1.1)
    bearded = not female and c.yes(0.80 * adult)
    sag = c.seen(35, 88)
    return Traits(
        skin=skin,
        hair=c.colour(c.pick(palette), 0.15),
        iris=c.colour(c.pick(IRIS) if race == 0 else IRIS[2], 0.15),
        lips=c.colour(lip_tint if lipstick else natural, 0.08),
        head_width=c.bell(0.74 + 0.14 * young - 0.02 * sex, 0.025),
        jaw_square=min(max(c.bell(0.38 - 0.42 * sex + 0.35 * sag, 0.12), 0.0), 1.0),
        jaw_taper=c.bell(0.20 + 0.05 * sex - 0.16 * sag - 0.08 * young, 0.03),
        eye_level=c.bell(-0.06 + 0.30 * young, 0.025),
        eye_width=c.bell(0.168 + 0.075 * young + 0.016 * sex, 0.008),
        eye_open=c.bell(0.62 + 0.22 * young + 0.05 * sex - 0.28 * sag, 0.05),
        lashes=min(max(c.bell((0.65 + 0.25 * adult) if female else 0.06, 0.15), 0.0), 1.0),
        shadow=c.between(0.5, 0.9) if c.yes(made_up) else 0.0,
        brow_thick=max(
            c.bell(0.042 - 0.022 * sex - 0.014 * young, 0.006) + (-0.012 if female else 0.016) * c.seen(40, 85),
            0.010,
        ),
        brow_arch=c.bell(0.035 + 0.025 * sex, 0.012),
        brow_gap=c.bell(0.17 + 0.025 * sex - 0.03 * sag, 0.012),
        nose_length=c.bell(0.34 - 0.13 * young - 0.015 * sex + 0.07 * c.seen(30, 90), 0.015),
        nose_width=c.bell(0.135 - 0.02 * young - 0.015 * sex + (0.03 if race == 1 else 0.0) + 0.03 * sag, 0.010),
        mouth_width=c.bell(0.25 - 0.06 * young - 0.01 * sex, 0.02),
        lip_full=max(
            c.bell(0.062 + 0.010 * sex + (0.012 if race == 1 else 0.0), 0.008) - 0.042 * c.seen(30, 88), 0.012
        ),
        smile=c.bell(0.03, 0.02),
        teeth=c.yes(0.25),
        ear_size=c.bell(0.15 + 0.05 * c.seen(30, 90), 0.012),
        neck_width=c.bell(0.46 - 0.08 * sex - 0.12 * young, 0.025),
        hair_length=(
            c.between(0.35, 1.6)
            if c.yes((0.58 - 0.25 * ramp(age_years, 45, 80)) * ramp(age_years, 0, 4) if female else 0.24)
            else c.between(-0.55, -0.2)
        ),
        hair_volume=c.bell(0.13 - 0.05 * c.seen(45, 90), 0.03) * ramp(age_years, -1, 4),
        hairline=c.bell(-0.60, 0.05),
        recede=bald,
        sparse=max(1 - c.seen(0, 3, 0.8), 0.55 * c.seen(55, 95)),
        bangs=c.yes(0.32 if female else 0.22),
        curly=c.yes(0.7 if race == 1 else 0.15),
        grey=grey,
        beard=c.between(0.35, 1.0) if bearded and c.yes(0.8) else 0.0,
        moustache=c.between(0.5, 1.0) if bearded else 0.0,
        beard_grey=c.seen(30, 66),
        forehead_lines=c.seen(26 + late, 72 + late),
        crow_feet=c.seen(30 + late, 76 + late),
        eye_bags=c.seen(32, 80),
        folds=c.seen(24 + late, 68 + late),
        mouth_lines=c.seen(48, 88),
        spots=c.seen(50, 95),
        blush=max(c.bell(0.12 + 0.22 * young, 0.08), 0.0),
        glasses=c.yes(0.08 + 0.35 * ramp(age_years, 38, 70)) and age_years > 4,
        earrings=c.yes(0.15 + 0.5 * adult if female else 0.04 * adult),
        bow=female and c.yes(0.65 - 0.6 * adult),
    )
