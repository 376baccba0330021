"""Draw the parts of a face as antialiased shapes on a pixel grid.

Face coordinates: u to the right, v down, the origin in the middle of the head, crown at v = -1 and chin at v = 1.
Pixels are computed with + - * / and square roots only, which IEEE 754 rounds alike on every machine.
"""

import numpy as np

from agegender_jax.synthetic.traits import Chance, Traits

FAINT, SOLID = 0.25, 0.5  # least coverage that marks a region, and that hides what is below


class Canvas:
    """A picture float32 [3, S, S] in 0..1, its face coordinates, and the regions painted so far.

    Attributes:
      u, v: face coordinates of the pixels, float32 [S, S]; uf, vf: the same, turned with the head.
      px: side of a pixel in face coordinates.
      masks: region -> bool [S, S].
    """

    def __init__(self, picture: np.ndarray, scale: float, centre, roll, turn, half_width: float):
        side = picture.shape[-1]
        self.picture, self.px = picture, 1 / (scale * side)
        self.masks: dict[str, np.ndarray] = {}
        grid = (np.arange(side, dtype=np.float32) + np.float32(0.5)) / side - 0.5
        x, y = (grid[None, :] - centre[0]) / scale, (grid[:, None] - centre[1]) / scale
        self.u, self.v = x * roll[0] + y * roll[1], y * roll[0] - x * roll[1]
        depth = np.maximum(1 - (self.u / half_width) ** 2, 0)
        self.uf, self.vf = self.u - turn[0] * depth, self.v - turn[1] * np.maximum(1 - self.v * self.v, 0)
        self.au = np.abs(self.uf)

    def edge(self, inside: np.ndarray, softness: float = 0.0) -> np.ndarray:
        """Return the coverage 0..1 of the points where `inside` (a signed length) is positive."""
        return np.clip(0.5 + inside / (self.px + softness), 0, 1)

    def paint(
        self, cover: np.ndarray, colour, region: str | None = None, hides: bool = False, part_of: str | None = None
    ) -> None:
        """Paint over the picture, and remove from the regions below what is no longer visible.

        Args:
          cover: share of each pixel that is painted, 0..1, [S, S].
          colour: [3] or [3, S, S].
          region: its name.
          hides: whether it hides the regions below.
          part_of: the region to which it belongs, which it does not hide.
        """
        if not isinstance(colour, np.ndarray):
            colour = np.asarray(colour, np.float32)[:, None, None]
        self.picture += cover * (colour - self.picture)
        if hides or part_of:
            below = cover < SOLID
            for name, mask in self.masks.items():
                if name != part_of:
                    mask &= below
        if region is not None:
            self.masks[region] = self.masks.get(region, False) | (cover > FAINT)

    def tint(self, cover: np.ndarray, gain: float, region: str | None = None) -> None:
        """Multiply the picture by `gain` where covered; what is below stays visible."""
        self.picture *= 1 + cover * (gain - 1)
        if region is not None:
            self.masks[region] = self.masks.get(region, False) | (cover > FAINT)

    def ellipse(self, u, v, centre, radius_u: float, radius_v: float, softness: float = 0.0) -> np.ndarray:
        rho = np.sqrt(((u - centre[0]) / radius_u) ** 2 + ((v - centre[1]) / radius_v) ** 2)
        return self.edge((1 - rho) * min(radius_u, radius_v), softness)

    def stroke(
        self, along, across, middle: float, half: float, level: float, slope: float, bend: float, thick: float
    ) -> np.ndarray:
        """Return a tapering parabola across = level + slope t + bend t^2, t = (along - middle) / half in -1..1."""
        t = (along - middle) / half
        q = t * t
        body = thick * (1 - q)
        reach = np.abs(across - (level + slope * t + bend * q))
        return np.where(q < 1, np.clip(0.5 + (body - reach) / self.px, 0, 1) * np.minimum(body / (0.5 * self.px), 1), 0)


def head_inside(c: Canvas, f: Traits, grow: float = 0.0) -> np.ndarray:
    """Return the signed length inside the head: an ellipse above, between an ellipse and a box towards the chin."""
    low = np.maximum(c.v, 0)
    a = (f.head_width + grow) * (1 - f.jaw_taper * low * low)
    p, q = (c.u / a) ** 2, (c.v / (1 + grow)) ** 2
    rho = np.sqrt(p + q)
    box = np.sqrt(np.sqrt(p * p + q * q))
    mix = f.jaw_square * np.minimum(low * 2.5, 1)
    return (1 - (rho + mix * (box - rho))) * f.head_width


def draw_skin(c: Canvas, f: Traits, chance: Chance, light, blotch: np.ndarray) -> np.ndarray:
    """Draw neck, ears and head with light and shade. Return the signed length inside the head."""
    skin = np.asarray(f.skin, np.float32)[:, None, None]
    neck = c.edge(np.minimum(f.neck_width + 0.10 * np.maximum(c.v - 1, 0) - np.abs(c.u), c.v - 0.4))
    shirt = chance.colour((chance.between(0.1, 0.9), chance.between(0.1, 0.9), chance.between(0.1, 0.9)), 0.1)
    collar = 1.18 + 0.25 * c.u * c.u - 0.12 * np.maximum(1 - (c.u / 0.4) ** 2, -1)
    c.paint(neck, skin * (0.78 - 0.12 * c.edge(1.05 - c.v, 0.3)), "neck", hides=True)
    c.paint(c.edge(c.v - collar), shirt, hides=True)
    ear = c.ellipse(np.abs(c.u), c.v, (f.head_width - 0.01, f.eye_level + 0.16), 0.10, f.ear_size)
    c.paint(ear, skin * 0.88, "ears", hides=True)
    c.tint(
        c.ellipse(np.abs(c.u), c.v, (f.head_width + 0.01, f.eye_level + 0.16), 0.05, f.ear_size * 0.6, 0.03),
        0.8,
    )
    inside = head_inside(c, f)
    nx, ny = c.u / f.head_width, c.v
    nz = np.sqrt(np.maximum(1 - nx * nx * 0.8 - ny * ny * 0.6, 0))
    shade = light[3] + (1 - light[3]) * np.clip(nx * light[0] + ny * light[1] + nz * light[2], -0.2, 1)
    c.paint(c.edge(inside), skin * (shade * (1 + 0.05 * blotch)), "head", hides=True)
    return inside


def draw_eyes(c: Canvas, f: Traits, chance: Chance) -> None:
    """Draw sockets, whites, irises, lids and lashes."""
    w, h = f.eye_width, f.eye_width * f.eye_open
    middle = 0.31 + 0.05 * (f.head_width - 0.74)
    ue = (c.au - middle) / w
    bow = 1 - ue * ue
    ve = c.vf - f.eye_level + chance.bell(0.012, 0.012) * ue
    c.tint(c.ellipse(c.au, c.vf, (middle, f.eye_level - 0.02), w * 1.35, h * 1.6, 0.12), 0.86)
    if f.shadow:
        lid = c.edge(np.minimum(h * 1.9 * bow + ve, -ve), 0.03) * f.shadow
        colour = chance.pick(((0.35, 0.25, 0.50), (0.25, 0.40, 0.45), (0.45, 0.25, 0.20)))
        c.paint(lid, colour, part_of="head")
    white = c.edge(np.minimum(h * bow + ve, 0.75 * h * bow - ve))
    c.paint(white, (0.93, 0.92, 0.90), "eyes", part_of="head")
    side = np.where(c.uf > 0, np.float32(1), np.float32(-1))
    look = chance.bell(0, 0.12) * w
    ui, radius = (c.au - middle) * side - look, 0.50 * w + 0.015
    c.paint(white * c.ellipse(ui, ve, (0, -0.05 * h), radius, radius), f.iris, "eyes", part_of="head")
    pupil = white * c.ellipse(ui, ve, (0, -0.05 * h), radius * 0.5, radius * 0.5)
    c.paint(pupil, (0.04, 0.03, 0.03), "eyes", part_of="head")
    c.paint(c.ellipse(ui, ve, (-0.25 * w, -0.25 * h), 0.03, 0.03), (0.98, 0.98, 0.98), "eyes", part_of="head")
    dark = tuple(0.28 * s for s in f.skin)
    lash = 0.012 + 0.034 * f.lashes
    line = np.where(bow > -0.05, c.edge(lash - np.abs(ve + h * bow)), 0)
    c.paint(line, dark, "eyes", part_of="head")
    if f.lashes > 0.3:
        tip = f.eye_level - h * 0.25
        for lift in (0.06, 0.11):
            c.paint(
                c.stroke(c.au, c.vf, middle + w * 1.0, w * 0.5, tip - lift, -lift * f.lashes, 0, 0.022),
                dark,
                "eyes",
                part_of="head",
            )


def draw_brows(c: Canvas, f: Traits, hair: np.ndarray) -> None:
    level = f.eye_level - f.brow_gap - f.eye_width * f.eye_open * 0.45
    brow = c.stroke(
        c.au,
        c.vf,
        0.33,
        f.eye_width * 1.45,
        level - f.brow_arch,
        -f.brow_arch * 0.4,
        f.brow_arch * 1.6,
        f.brow_thick,
    )
    c.paint(brow * 0.9, hair, "brows", part_of="head")


def draw_nose(c: Canvas, f: Traits, light) -> float:
    """Draw bridge, tip and nostrils. Return the level of the nose's base."""
    base = f.eye_level + f.nose_length
    w = f.nose_width
    side = 1 if light[0] < 0 else -1
    bridge = c.ellipse(c.uf, c.vf, (side * 0.075, (f.eye_level + base) / 2), 0.06, f.nose_length * 0.55, 0.10)
    c.tint(bridge, 0.80, "nose")
    c.tint(c.ellipse(c.uf, c.vf, (0, base - 0.04), w * 1.05, 0.085, 0.06), 0.88, "nose")
    c.tint(c.ellipse(c.uf, c.vf, (-side * 0.02, base - 0.06), w * 0.45, 0.05, 0.06), 1.22)
    c.tint(c.ellipse(c.au, c.vf, (w * 0.55, base), w * 0.28, 0.022), 0.45, "nose")
    return base


def draw_mouth(c: Canvas, f: Traits, base: float) -> float:
    """Draw lips, the line between, sometimes teeth. Return the level of the mouth."""
    level = base + (1 - base) * 0.42
    t = c.uf / f.mouth_width
    bow = 1 - t * t
    vm = c.vf - level + f.smile * (t * t)
    full = f.lip_full
    notch = 0.25 * np.maximum(1 - np.abs(t) * 5, 0)
    upper = c.edge(np.minimum(full * (0.85 - notch) * bow + vm, -vm + 0.004))
    lower = c.edge(np.minimum(full * 1.25 * bow - vm, vm))
    c.paint(lower, f.lips, "mouth", part_of="head")
    c.paint(upper, tuple(0.82 * x for x in f.lips), "mouth", part_of="head")
    c.tint(c.ellipse(c.uf, c.vf, (0, level + full * 0.6), f.mouth_width * 0.35, full * 0.3, 0.03), 1.15)
    gap = 0.030 if f.teeth else 0.010
    line = np.where(bow > 0, c.edge(gap * bow - np.abs(vm)), 0)
    colour = (0.95, 0.94, 0.90) if f.teeth else tuple(0.35 * x for x in f.lips)
    c.paint(line, colour, "mouth", part_of="head")
    c.tint(c.ellipse(c.uf, c.vf, (0, level + full * 1.25 + 0.05), f.mouth_width * 0.6, 0.03, 0.05), 0.88)
    return level
