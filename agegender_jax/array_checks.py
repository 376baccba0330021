"""Checks of array arguments. Shapes and dtypes are static, so traced arrays are checked too, while they are traced."""

from typing import Any

import numpy as np

KINDS = {"uint8": np.uint8, "int": np.integer, "float": np.floating, "bool": np.bool_}


def check(**arguments: tuple[Any, str]) -> dict[str, int]:
    """Check dtypes and shapes, and that equal letters stand for equal sizes; return the size of each letter.

    `check(images=(x, "uint8 B H W 3"), gender=(y, "int B"))` returns {"B": …, "H": …, "W": …}. The first word is one of
    KINDS, `number` for integers, floats and bools, or `any`; `float` includes bfloat16. `...` stands for any leading
    axes.

    Raises:
      ValueError: a check fails; the message names the argument, what it must be, and what it is.
    """
    sizes: dict[str, int] = {}
    for name, (value, expected) in arguments.items():
        kind, *axes = expected.split()
        shape, dtype = np.shape(value), _dtype(value)
        required = f"{name} must be {kind} [{', '.join(axes)}]"
        if axes[:1] == ["..."]:
            axes = axes[1:]
            shape = shape[len(shape) - len(axes) :]
        if not _is(dtype, kind) or len(shape) != len(axes):
            raise ValueError(f"{required}, got {dtype} {list(np.shape(value))}")
        for axis, size in zip(axes, shape, strict=True):
            if size != (int(axis) if axis.isdigit() else sizes.setdefault(axis, size)):
                known = "" if axis.isdigit() else f" where {axis} = {sizes[axis]}"
                raise ValueError(f"{required}{known}, got {dtype} {list(np.shape(value))}")
    return sizes


def _dtype(value: Any) -> np.dtype:
    return np.dtype(value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype)


def _is(dtype: np.dtype, kind: str) -> bool:
    if kind == "any":
        return True
    if kind == "number":
        return any(_is(dtype, other) for other in ("int", "float", "bool"))
    return np.issubdtype(dtype, KINDS[kind]) or (kind == "float" and dtype.name == "bfloat16")
