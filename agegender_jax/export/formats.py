"""The formats: each function returns the content of a file."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from agegender_jax.errors import ConfigError
from agegender_jax.export import program
from agegender_jax.prediction.members import Member

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def stablehlo(members: Sequence[Member], platforms: Sequence[str]) -> bytes:
    """Return a serialised `jax.export.Exported`: uint8 RGB [B, S, S, 3] -> (age [B, A], gender [B, G]), B free.

    It contains a program for each platform, regardless of the machine that makes it; the one for a GPU uses none of the
    CPU's kernels. Loading it needs the version of jax that wrote it, or one up to six months newer.

    Raises:
      ConfigError: platforms are unknown, or the nets have different image sizes.
    """
    check_platforms(platforms)
    size = program.image_size(members)
    images = jax.ShapeDtypeStruct(jax.export.symbolic_shape(f"B, {size}, {size}, 3"), np.uint8)
    exported = jax.export.export(jax.jit(program.function(members)), platforms=list(platforms))(images)
    return bytes(exported.serialize())


def check_platforms(platforms: Sequence[str]) -> None:
    """Raise ConfigError unless `platforms` are some of PLATFORMS."""
    wrong = [name for name in platforms if name not in PLATFORMS]
    if wrong or not platforms:
        what = f"unknown platform {wrong[0]!r}" if wrong else "no platform is named"
        raise ConfigError(what, "--platforms", f"use some of {', '.join(PLATFORMS)}")


def in_float32(member: Member) -> Member:
    """Return a net of bfloat16 as one that computes in float32, with the same weights; other nets as they are."""
    backbone = getattr(member.model, "backbone", None)
    if backbone is None or getattr(backbone, "dtype", jnp.float32) == jnp.float32:
        return member
    return dataclasses.replace(member, model=member.model.clone(backbone=backbone.clone(dtype=jnp.float32)))


def onnx(members: Sequence[Member], name: str) -> bytes:
    """Return an ONNX model with the input `images`, uint8 RGB [B, S, S, 3], and the outputs `age` and `gender`.

    It computes in float32, also for nets of bfloat16, whose operations ONNX Runtime lacks on CPUs.

    Raises:
      ConfigError: the nets have different image sizes, or a part of them cannot be converted.
    """
    import jax2onnx

    size = program.image_size(members)
    plain = program.for_any_platform(program.function([in_float32(member) for member in members]), size)
    try:
        model = jax2onnx.to_onnx(
            plain,
            [jax.ShapeDtypeStruct(("B", size, size, 3), np.uint8)],
            model_name=name,
            input_names=["images"],
            output_names=["age", "gender"],
        )
    except Exception as error:  # of many types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"jax2onnx cannot convert {name}: {reason}", "--to=onnx", "use --to=stablehlo or --to=safetensors"
        ) from error
    return bytes(model.SerializeToString())
