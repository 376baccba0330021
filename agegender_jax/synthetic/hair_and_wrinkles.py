"""Draw hair, beard, wrinkles and glasses; coordinates and rules as in parts.py."""

import numpy as np

from agegender_jax.synthetic.parts import Canvas, head_inside
from agegender_jax.synthetic.traits import Chance, Traits

GREY = (0.80, 0.80, 0.82)


def hair_colour(f: Traits, grey: float, strands: np.ndarray) -> np.ndarray:
    """Return the colour [3, S, S]: strands of the natural colour, a share `grey` of them white."""
    base = np.asarray(f.hair, np.float32)[:, None, None]
    white = np.clip((strands * 0.5 + grey * 2.0 - 1.0) * 1.3 + 0.5, 0, 1) if grey > 0 else 0
    return (base + white * (np.asarray(GREY, np.float32)[:, None, None] - base)) * (1 + 0.28 * strands)


def draw_back_hair(c: Canvas, f: Traits, strands: np.ndarray) -> None:
    """Draw the hair behind the head: a cap, and long hair down to its length."""
    cap = head_inside(c, f, f.hair_volume + 0.02)
    cap = np.minimum(cap, f.eye_level + 0.05 - c.v)
    if f.hair_length > 0:
        wide = f.head_width + f.hair_volume + 0.06 + 0.06 * c.v
        fall = np.minimum(wide - np.abs(c.u) - 0.03 * strands, f.hair_length - c.v - 0.05 * strands)
        fall = np.minimum(fall, c.v + 0.35)
        cap = np.maximum(cap, fall)
    thin = 1 - 0.9 * f.recede if f.hair_length <= 0 else 1.0
    c.paint(
        c.edge(cap) * min(1 - 0.8 * f.sparse, max(thin, 0.0) + 0.2),
        hair_colour(f, f.grey, strands) * 0.8,
        "hair",
        hides=True,
    )


def draw_top_hair(c: Canvas, f: Traits, strands: np.ndarray, chance: Chance) -> None:
    """Draw the hair over forehead and temples. Its line rises with balding."""
    part = chance.bell(0, 0.25)
    across = (c.u - part) / f.head_width
    line = f.hairline + (0.32 if f.bangs and f.recede < 0.3 else 0.0)
    line = line - 0.62 * f.recede * np.maximum(1 - across * across * 0.9, 0)
    temple = np.maximum(np.abs(c.u) / f.head_width - 0.80, 0)
    line = line + 0.22 * across * across
    line = np.minimum(line, f.eye_level - 0.20) + temple * 3 + 0.03 * strands
    inside = np.minimum(head_inside(c, f, f.hair_volume), line - c.v)
    inside = np.minimum(inside, f.eye_level + 0.18 - c.v)
    if f.recede > 0.7:
        inside = np.minimum(inside, np.abs(c.u) - f.head_width * 0.55)
    cover = c.edge(inside, 0.03)
    c.paint(
        cover * np.clip(1 - f.sparse * (0.75 - 0.5 * strands), 0, 1),
        hair_colour(f, f.grey, strands),
        "hair",
        hides=True,
    )


def draw_beard(c: Canvas, f: Traits, inside: np.ndarray, mouth: float, base: float, grain: np.ndarray) -> None:
    """Draw a beard along the jaw, from stubble to full, and a moustache."""
    colour = hair_colour(f, f.beard_grey, grain)
    if f.beard:
        top = mouth + 0.10 - 0.55 * np.maximum(np.abs(c.u) / f.head_width - 0.45, 0)
        lips = c.ellipse(c.uf, c.vf, (0, mouth), f.mouth_width * 1.05, f.lip_full * 1.5 + 0.02)
        cover = c.edge(np.minimum(inside + 0.03, c.v - top), 0.08) * (1 - lips)
        c.paint(cover * np.clip(f.beard * (0.65 + 0.9 * grain), 0, 1), colour, "beard", part_of="head")
    level = (mouth - f.lip_full + base) / 2 + 0.015
    cover = c.stroke(c.uf, c.vf, 0, f.mouth_width * 1.15, level, 0, 0.07, 0.055)
    c.paint(cover * np.clip(f.moustache * (0.8 + 0.5 * grain), 0, 1), colour, "beard", part_of="head")


def draw_wrinkles(c: Canvas, f: Traits, chance: Chance, base: float, mouth: float) -> None:
    """Draw forehead lines, crow's feet, bags, folds and lines about the mouth: dark, with a light rim below."""
    lines = np.zeros_like(c.u)
    rims = np.zeros_like(c.u)

    def crease(strength, *args):
        if strength > 0.03:
            along, across, *rest, thick = args
            rest = tuple(rest)
            body = thick * (0.7 + 1.0 * strength)
            depth = min(0.35 + 0.75 * strength, 1)
            np.maximum(lines, depth * c.stroke(along, across, *rest, body), out=lines)
            shifted = across - body * 2
            np.maximum(rims, depth * c.stroke(along, shifted, *rest, body), out=rims)

    top = f.eye_level - f.brow_gap - 0.16
    for k in range(4):
        crease(
            min(f.forehead_lines * 4 - k, 1),
            c.uf,
            c.vf,
            chance.bell(0, 0.04),
            0.42 - 0.04 * k,
            top - 0.095 * k,
            chance.bell(0, 0.01),
            chance.bell(0.03, 0.012),
            0.022,
        )
    corner = 0.31 + f.eye_width
    for k in range(3):
        crease(
            min(f.crow_feet * 3 - k * 0.7, 1),
            c.au,
            c.vf,
            corner + 0.11,
            0.10,
            f.eye_level + (0.0, 0.07, -0.07)[k],
            (0.01, 0.05, -0.05)[k],
            0,
            0.018,
        )
    low = f.eye_level + f.eye_width * f.eye_open * 0.75 + 0.05
    crease(f.eye_bags, c.au, c.vf, 0.31, f.eye_width * 1.05, low + 0.045, 0, -0.05, 0.026)
    crease(min(f.eye_bags * 2 - 1, 1), c.au, c.vf, 0.31, f.eye_width * 0.95, low + 0.115, 0, -0.05, 0.020)
    crease(
        f.folds,
        c.vf,
        c.au,
        (base + mouth) / 2 + 0.02,
        (mouth - base) / 2 + 0.12,
        f.nose_width + 0.13,
        0.07,
        0.02,
        0.026,
    )
    crease(f.mouth_lines, c.vf, c.au, mouth + 0.14, 0.13, f.mouth_width + 0.05, 0.02, 0, 0.022)
    for k in (-2, -1, 0, 1, 2):
        crease(f.mouth_lines * 0.8, c.vf, c.uf, mouth - f.lip_full - 0.05, 0.05, 0.06 * k, 0, 0, 0.012)
    if lines.any():
        c.tint(rims, 1.22)
        c.tint(lines, 0.36, "wrinkles")


def draw_spots(c: Canvas, f: Traits, chance: Chance, inside: np.ndarray) -> None:
    """Draw age spots on the forehead and cheeks."""
    cover = np.zeros_like(c.u)
    for _ in range(int(f.spots * 9)):
        centre = (
            chance.between(-0.6, 0.6),
            chance.pick((chance.between(-0.75, -0.4), chance.between(0.15, 0.6))),
        )
        np.maximum(cover, c.ellipse(c.uf, c.vf, centre, chance.between(0.025, 0.05), 0.03), out=cover)
    if f.spots * 9 >= 1:
        c.tint(cover * c.edge(inside), 0.72, "spots")


def draw_extras(c: Canvas, f: Traits, chance: Chance) -> None:
    """Draw glasses (frames without lenses), earrings and a bow in the hair."""
    if f.glasses:
        colour = chance.pick(((0.08, 0.08, 0.09), (0.35, 0.20, 0.10), (0.70, 0.65, 0.55)))
        middle, radius = 0.32, f.eye_width * 1.45
        tall = radius * chance.between(0.75, 1.0)
        rho = np.sqrt(((c.au - middle) / radius) ** 2 + ((c.vf - f.eye_level - 0.02) / tall) ** 2)
        frame = c.edge(0.020 - np.abs(1 - rho) * tall)
        bridge = c.edge(np.minimum(0.016 - np.abs(c.vf - f.eye_level), np.minimum(middle - radius - c.au, 1)))
        temple = c.edge(
            np.minimum(
                0.016 - np.abs(c.vf - f.eye_level),
                np.minimum(c.au - middle - radius, f.head_width - np.abs(c.u)),
            )
        )
        c.paint(np.maximum(np.maximum(frame, bridge), temple), colour, "glasses", hides=True)
    if f.earrings:
        c.paint(
            c.ellipse(np.abs(c.u), c.v, (f.head_width + 0.02, f.eye_level + 0.20 + f.ear_size), 0.055, 0.08),
            chance.pick(((0.90, 0.78, 0.35), (0.85, 0.85, 0.88), (0.70, 0.20, 0.30))),
            "earrings",
            hides=True,
        )
    if f.bow:
        colour = chance.pick(((0.90, 0.25, 0.45), (0.25, 0.45, 0.85), (0.95, 0.85, 0.35), (0.95, 0.95, 0.95)))
        u = np.abs(c.u - chance.pick((-0.4, 0.4))) - 0.02
        loops = np.minimum(np.minimum(u * 0.6 + 0.03 - np.abs(c.v + 0.80), 0.19 - u), 0.1)
        c.paint(c.edge(loops), colour, "bow", hides=True)
        knot = c.edge(np.minimum(0.03 - u, 0.05 - np.abs(c.v + 0.80)))
        c.paint(knot, tuple(0.7 * x for x in colour), "bow", hides=True)
