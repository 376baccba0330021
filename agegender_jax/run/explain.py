"""The explanation job: what trained nets looked at in pictures that a user names, drawn and as arrays."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agegender_jax import explain, files, loading, report
from agegender_jax.config import nearest
from agegender_jax.errors import ConfigError
from agegender_jax.explain import maps as maps_lib
from agegender_jax.explain import scoring
from agegender_jax.labels import AGE_BUCKETS, GENDERS
from agegender_jax.run import evaluate, explain_evaluation, photos
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.host.signals import stop_flag
from agegender_jax.run.photos import Photo
from agegender_jax.run.workdir import make_out, write_json

CLASSES = {"age": AGE_BUCKETS, "gender": GENDERS}


def explain_photos(
    paths: Sequence[str],
    workdirs: Sequence[str],
    *,
    methods: Sequence[str],
    heads: Sequence[str],
    checkpoint: str,
    out: str | None,
    scores: bool,
) -> dict:
    """Explains the decisions of the nets of `workdirs` on pictures; writes all to `out`, returns explanations.json.

    For each net and picture `<net>/<picture>.png`, the overlays, and `<net>/<picture>.npz`, see `arrays`.

    Args:
      paths: image files and folders.
      methods: of explain.METHODS; all if none is given. heads: of explain.HEADS.
      checkpoint: "best", "latest" or a step's number.
      out: folder; explanations/<names joined by +> if None.
      scores: measure deletion and insertion of every map.

    Raises:
      ConfigError, DataError, CheckpointError: as the exit codes say.
    """
    if not paths:
        raise ConfigError("no image is named", "command line", "python -m launch.explain IMAGE… --workdir=DIR")
    methods = list(dict.fromkeys(methods)) or list(explain.METHODS)
    for method in methods:
        if method not in explain.METHODS:
            raise ConfigError(f"unknown method {method!r}", "--method", nearest(method, explain.METHODS))
    places, configs = evaluate.read_runs(workdirs)
    for place, config in zip(places, configs, strict=True):
        explain_evaluation.check_no_control(place, config)
    names = evaluate.member_names([place.path.name for place in places])
    found = photos.read(paths, {config["data"]["image_size"] for config in configs})
    folder = files.expand(out or f"explanations/{'+'.join(names)}", "--out").resolve()
    for name in names:
        make_out(folder / name)
    told = {"schema": 1, "members": [], "images": [{"file": p.file, "name": p.name, "answers": {}} for p in found]}
    with stop_flag() as stop, Progress(stop=stop) as progress:
        for place, name in zip(places, names, strict=True):
            net, variables, config, step = loading.load_checkpoint(place.path, checkpoint, progress.warn)
            size = config["data"]["image_size"]
            told["members"].append({"name": name, "workdir": place.given, "step": step, "image_size": size})
            answers = _member(net, variables, found, size, methods, heads, scores, folder / name, progress)
            for image, answer in zip(told["images"], answers, strict=True):
                image["answers"][name] = answer
        write_json(folder / "explanations.json", told)
        progress.note(f"explanations: {folder}")
    return told


def _member(net, variables, found: list[Photo], size, methods, heads, scores, folder: Path, progress) -> list[dict]:
    """One net's answers to all pictures, its files written."""
    images = np.stack([photo.sized[size] for photo in found])
    drawn = maps_lib.draw(
        net,
        variables,
        images,
        methods=methods,
        heads=heads,
        progress=lambda *n: progress.prepare(*n, f"{folder.name}: maps"),
    )
    areas = None
    if scores:
        text = f"{folder.name}: deletion and insertion"
        areas = scoring.areas(net, variables, images, drawn, lambda *n: progress.prepare(*n, text))
    told = []
    for i, photo in enumerate(found):
        answer = {head: _decision(drawn, areas, head, i) for head in heads}
        files.replace(folder / f"{photo.name}.png", report.overlays(images[i], drawn, i, answer))
        files.replace(folder / f"{photo.name}.npz", arrays(drawn, images[i], i))
        told.append(answer)
    return told


def arrays(drawn: maps_lib.Maps, image: np.ndarray, i: int) -> bytes:
    """A picture's .npz.

    picture: uint8 [H, W, 3], as the net saw it. <method>_<head>: float32 [H, W]. For each attention module
    attention_<module>: float32 [H, W], the mean mask; attention_<module>_channels: float32 [K, H, W], the strongest
    channels, and attention_<module>_indices: int32 [K], which these are.
    """
    named = {"picture": image}
    for head, attributions in drawn.attributions.items():
        named |= {f"{method}_{head}": map_[i] for method, map_ in attributions.items()}
    for module in drawn.attention:
        key = f"attention_{module.name}"
        named |= {key: module.mean[i], f"{key}_channels": module.channels[i], f"{key}_indices": module.indices[i]}
    out = io.BytesIO()
    np.savez_compressed(out, **named)
    return out.getvalue()


def _decision(drawn: maps_lib.Maps, areas: dict | None, head: str, i: int) -> dict:
    """What a head answered to picture i: class, probabilities, the account of LRP and the areas of its maps."""
    probs, chosen = getattr(drawn.probs, head)[i], int(drawn.targets[head][i])
    told = {"class": CLASSES[head][chosen], "probability": probs[chosen], "probabilities": probs}
    if head in drawn.relevance:
        account = drawn.relevance[head]
        parts = {name: getattr(account, name)[i] for name in ("logit", "absorbed", "feed", "error")}
        told["lrp"] = {"pixels": account.pixels[i].sum(), **parts}
    if areas is not None:
        told["areas"] = {name: {kind: v[i] for kind, v in kinds.items()} for name, kinds in areas[head].items()}
    return told
