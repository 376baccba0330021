"""One function from pixels to probabilities, and the same function without the CPU's special kernels."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.extend import core

from agegender_jax import ensemble
from agegender_jax.data.views import views
from agegender_jax.errors import ConfigError
from agegender_jax.prediction.members import Member
from agegender_jax.structs import Probs

Arrays = tuple[Any, Any]


def image_size(members: Sequence[Member]) -> int:
    """Return the side in pixels of the images that all members take; raise ConfigError if they differ."""
    sizes = sorted({member.image_size for member in members})
    if len(sizes) > 1:
        raise ConfigError(
            f"these nets take images of different sizes: {', '.join(map(str, sizes))} pixels",
            "--workdir",
            "export each net into a folder of its own",
        )
    return sizes[0]


def function(members: Sequence[Member]) -> Callable[[jax.Array], Arrays]:
    """Return a pure function of images that computes what `Predictor` does with chips.

    It takes uint8 RGB [B, S, S, 3] and returns float32 probabilities (age [B, A], gender [B, G]): the average of the
    members, each with its views and temperatures. The weights are constants of the function.
    """

    def probabilities(images: jax.Array) -> Arrays:
        mean = ensemble.mean_probs([_member_probs(member, images) for member in members])
        return mean.age, mean.gender

    return probabilities


def _member_probs(member: Member, images: jax.Array) -> Probs:
    seen = [ensemble.predict(member.model, member.variables, view) for view in views(images, member.views)]
    return ensemble.calibrate(ensemble.mean_of_views(seen), *member.temperatures)


def for_any_platform(probabilities: Callable[[jax.Array], Arrays], size: int) -> Callable[[jax.Array], list[jax.Array]]:
    """Return `probabilities` as a plain function for converters to other formats.

    Where a program chooses by platform, the choice for platforms other than the CPU is taken. Nested functions are
    inlined. The batch may be a symbolic dimension of any scope, and max pooling is `nn.max_pool`, which jax2onnx can
    convert.

    Args:
      probabilities: see `function`.
      size: side of the images in pixels.
    """
    shape = jax.export.symbolic_shape(f"B, {size}, {size}, 3")
    closed = jax.make_jaxpr(probabilities)(jax.ShapeDtypeStruct(shape, np.uint8))

    def evaluate(images: jax.Array) -> list[jax.Array]:
        return _evaluate(closed.jaxpr, closed.consts, [images], batch=images.shape[0])

    return evaluate


def _evaluate(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any], batch: Any) -> list[Any]:
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
    for equation in jaxpr.eqns:
        operands = [x.val if isinstance(x, core.Literal) else values[x] for x in equation.invars]
        values.update(zip(equation.outvars, _outputs(equation, operands, batch), strict=True))
    return [x.val if isinstance(x, core.Literal) else values[x] for x in jaxpr.outvars]


def _outputs(equation: Any, operands: list[Any], batch: Any) -> list[Any]:
    name, params = equation.primitive.name, equation.params
    if name == "platform_index":  # of the first choice that is not for CPUs alone
        return [
            next(i for i, platforms in enumerate(params["platforms"]) if platforms is None or "cpu" not in platforms)
        ]
    if name == "cond" and isinstance(operands[0], int):
        branch = params["branches"][operands[0]]
        return _evaluate(branch.jaxpr, branch.consts, operands[1:], batch)
    inner = params.get({"jit": "jaxpr", "pjit": "jaxpr", "custom_jvp_call": "call_jaxpr"}.get(name, ""))
    if inner is not None:
        return _evaluate(inner.jaxpr, inner.consts, operands, batch)
    if name == "reduce_window_max":
        x = jnp.pad(operands[0], params["padding"], constant_values=-np.inf)
        window, strides = (tuple(params[key][1:3]) for key in ("window_dimensions", "window_strides"))
        return [nn.max_pool(x, window_shape=window, strides=strides, padding="VALID")]
    params = {key: _with_batch(value, batch) for key, value in params.items()}
    outputs = equation.primitive.bind(*operands, **params)
    return outputs if equation.primitive.multiple_results else [outputs]


def _with_batch(value: Any, batch: Any) -> Any:
    """Return a parameter of an equation, with the symbolic dimensions that it was traced with replaced."""
    if type(value) is tuple:
        return tuple(_with_batch(part, batch) for part in value)
    return _dimension(value, batch) if jax.export.is_symbolic_dim(value) else value


def _dimension(dim: Any, batch: Any) -> Any:
    """Return the value of an expression of the batch B, such as B - 1 or 25*B, for an int or another dimension.

    JAX has no public function for this.
    """
    return dim._evaluate({"B": batch})
