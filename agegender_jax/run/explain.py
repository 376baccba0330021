"""The explain command: explain the predictions of trained nets on photos, as overlays and as arrays."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agegender_jax import explain, files, report
from agegender_jax.errors import ConfigError
from agegender_jax.explain.map_scores import areas as compute_areas
from agegender_jax.explain.maps import BATCH, Maps, compute_maps
from agegender_jax.photos import detector as yunet
from agegender_jax.photos import face_chips
from agegender_jax.run.explanations import explained_nets, explained_photos
from agegender_jax.run.explanations.explained_photos import Photo
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.host.signals import stop_flag
from agegender_jax.run.pictures.picture_files import left_out_of_folders, not_read
from agegender_jax.run.workdir import check_replaces, make_out, out_folder, write_json
from agegender_jax.suggestions import nearest

FILE = "explanations.json"
SUFFIXES = (".png", ".npz")  # of the files of a net and a photo


def explain_photos(
    paths: Sequence[str],
    workdirs: Sequence[str],
    *,
    methods: Sequence[str],
    heads: Sequence[str],
    checkpoint: str,
    out: str | None,
    scores: bool,
    weights: str | None = None,
    weights_dir: str | None = None,
    detector: str | None = None,
    score: float = yunet.SCORE,
) -> dict:
    """Explain the predictions of every net on every photo; write the files to `out` and return explanations.json.

    Each net and face give `<net>/<photo>.png`, the overlays, and `<net>/<photo>.npz`, see `arrays`.

    Args:
      paths: image files and folders.
      workdirs: folders of the runs whose nets are explained; the shipped weights if empty.
      methods: some of explain.METHODS; empty for all.
      heads: some of explain.HEADS.
      checkpoint: of runs: "best", "latest" or a step.
      out: folder; explanations/<names joined by +> if None.
      scores: compute deletion and insertion areas of every map.
      weights, weights_dir: see `Predictor`.
      detector: "yunet" for every face of each photo, or "none" for its largest centred square; if None, "none" for runs
        and "yunet" for weights.
      score: minimum score of a face.

    Raises:
      ConfigError, DataError, CheckpointError: an argument is wrong, a photo or net cannot be read, or there is no face.
    """
    if not paths:
        raise ConfigError("no image is named", "command line", "agegender explain IMAGE…")
    named, methods = methods, list(dict.fromkeys(methods)) or list(explain.METHODS)
    for method in methods:
        if method not in explain.METHODS:
            raise ConfigError(f"unknown method {method!r}", "--method", nearest(method, explain.METHODS))
    kind = detector or (face_chips.NONE if workdirs else face_chips.YUNET)
    if kind == face_chips.YUNET:
        yunet.model_bytes()  # its absence is reported before nets are loaded
    nets = explained_nets.choose(workdirs, weights, weights_dir, checkpoint)
    explained_nets.check_methods(nets, named)
    names, origins = [net.name for net in nets], [net.origin for net in nets]
    sizes = {net.size for net in nets}
    with stop_flag() as stop, Progress(stop=stop) as progress:

        def find(image: np.ndarray) -> list[face_chips.Chip]:
            stop.check("finding faces")
            return face_chips.find(image, sizes, kind=kind, score=score, chip_size=nets[0].chip_size)

        if note := not_read(left_out_of_folders(paths), "name it as an argument to read it too, an archive unpacked"):
            progress.warn(note)
        pictures, faceless = explained_photos.read(paths, find)
        folder = files.resolve(out or f"explanations/{'+'.join(names)}", "--out")
        check_replaces(
            folder / FILE,
            is_same=lambda earlier: out_folder.origins(earlier["members"]) == out_folder.origins(origins),
            describe=lambda earlier: f"explanations of {', '.join(map(str, out_folder.origins(earlier['members'])))}",
        )
        targets = [folder / name / f"{photo.name}{end}" for name in names for photo in pictures for end in SUFFIXES]
        _check_targets(targets, [photo.fields["file"] for photo in pictures], folder)
        for name in names:
            make_out(folder / name)
        images: list[dict[str, Any]] = [{**photo.fields, "answers": {}} for photo in pictures]
        summary: dict[str, Any] = {"schema": 1, "members": [], "images": images, "no_face": faceless}
        for file in faceless:
            progress.warn(f"no face: {files.printable(file)}")
        if not (folder / FILE).exists():  # by which a repeated command knows an interrupted one
            write_json(folder / FILE, summary | {"members": [{"name": net.name, **net.origin} for net in nets]})
        for explained in nets:
            net, variables, step = explained.load(progress.warn)
            place, size = folder / explained.name, explained.size
            summary["members"].append({"name": explained.name, **explained.origin, "step": step, "image_size": size})
            options = {"methods": methods, "heads": heads, "open_from": explained.open_from}
            predictions = _explain_net(net, variables, pictures, size, options, scores, place, progress)
            for image, prediction in zip(images, predictions, strict=True):
                image["answers"][explained.name] = prediction
        write_json(folder / FILE, summary)
        progress.note(f"explanations: {folder}")
    return summary


def _check_targets(targets: Sequence[Path], photos: Sequence[str], folder: Path) -> None:
    """Raise ConfigError if a file to write is one of the photos, or was not written by an earlier call."""
    fix = "name another folder with --out"
    is_own = (folder / FILE).exists()
    given = {files.expand(photo, "command line").resolve() for photo in photos}
    for target in targets:
        if target.resolve() in given:
            raise ConfigError("--out would replace a photo that is explained", str(target), fix)
        if not is_own and target.exists():
            raise ConfigError("--out holds a file that this command did not write", str(target), fix)


def _explain_net(net, variables, pictures: Sequence[Photo], size, options, scores, folder: Path, progress):
    """Write the files of one net, batch by batch, and return its predictions for all photos.

    Args:
      options: those of compute_maps.
    """
    predictions = []
    for start in range(0, len(pictures), BATCH):
        batch = pictures[start : start + BATCH]
        images = np.stack([photo.sized[size] for photo in batch])

        def reporter(text: str, start=start):
            return lambda done, _: progress.prepare(start + done, len(pictures), f"{folder.name}: {text}")

        maps = compute_maps(net, variables, images, **options, progress=reporter("maps"))
        areas = None
        if scores:
            areas = compute_areas(net, variables, images, maps, reporter("deletion and insertion"))
        for i, photo in enumerate(batch):
            prediction = {head: _prediction(maps, areas, head, i) for head in options["heads"]}
            overlays = report.overlays(images[i], maps, i, prediction)
            for suffix, content in zip(SUFFIXES, (overlays, arrays(maps, images[i], i)), strict=True):
                files.replace(folder / f"{photo.name}{suffix}", content)
            predictions.append(prediction)
    return predictions


def arrays(maps: Maps, image: np.ndarray, i: int) -> bytes:
    """Return the .npz file of photo i.

    picture: uint8 [H, W, 3], the input of the net. <method>_<head>: float32 [H, W]. For each attention module
    attention_<module>: float32 [H, W], the mean mask; attention_<module>_channels: float32 [K, H, W], the strongest
    channels; attention_<module>_indices: int32 [K], the indices of these channels.
    """
    named: dict[str, Any] = {"picture": image}
    for head, attributions in maps.attributions.items():
        named |= {f"{method}_{head}": values[i] for method, values in attributions.items()}
    for module in maps.attention:
        key = f"attention_{module.name}"
        named |= {key: module.mean[i], f"{key}_channels": module.channels[i], f"{key}_indices": module.indices[i]}
    out = io.BytesIO()
    np.savez_compressed(out, **named)
    return out.getvalue()


def _prediction(maps: Maps, areas: dict | None, head: str, i: int) -> dict:
    """Return class, probabilities, LRP's decomposition of the logit and the areas of the maps for photo i."""
    name, probability = maps.prediction(head, i)
    prediction = {"class": name, "probability": probability, "probabilities": getattr(maps.probs, head)[i]}
    for method, relevance in maps.relevance.get(head, {}).items():
        parts = {name: getattr(relevance, name)[i] for name in ("logit", "absorbed", "feed", "error")}
        prediction[method] = {"pixels": relevance.pixels[i].sum(), **parts}
    if areas is not None:
        prediction["areas"] = {name: {k: v[i] for k, v in kinds.items()} for name, kinds in areas[head].items()}
    return prediction
