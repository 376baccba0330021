"""The export command: write trained nets to files for other programs, load each file again and compare it."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import agegender_jax
from agegender_jax import extras, files, synthetic, weights
from agegender_jax.errors import CheckpointError, ConfigError
from agegender_jax.export import formats, loaders, program
from agegender_jax.names import unique
from agegender_jax.prediction import members
from agegender_jax.prediction.predictor import Predictor
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.host.signals import stop_flag
from agegender_jax.run.workdir import check_replaces, check_unchanged, make_out, write_json

FORMATS = {"onnx": ".onnx", "stablehlo": ".jaxexport", "safetensors": ".json"}  # and the suffix of what is loaded
EXTRAS = {"onnx": "onnx", "stablehlo": "stablehlo", "safetensors": "photos"}
RECORD = "export.json"  # weights.RESERVED
FACES = 64  # compared
OF_FILES = ("storage", "open_from", "bucket_years")  # fields of a card that its copy has anew
LIMIT = 0.01  # difference of a probability; rounding in float32 stays below 1e-4


def export(
    *,
    workdirs: Sequence[str],
    weights_name: str | None,
    weights_dir: str | None = None,
    to: Sequence[str],
    platforms: Sequence[str],
    checkpoint: str,
    out: str | None,
) -> dict[str, Any]:
    """Write an ensemble or a single net to files, and return the content of export.json.

    Args:
      workdirs: folders of runs; the shipped weights if empty.
      weights_name: name of shipped weights; "default" if None.
      weights_dir: another folder of weights.
      to: some of FORMATS.
      platforms: platforms of a StableHLO file, see `formats.PLATFORMS`.
      checkpoint: of runs: "best", "latest" or a step.
      out: folder; exports/<names joined by +> if None.

    Raises:
      ConfigError: an argument is wrong, the nets have different image sizes, or a package is missing.
      CheckpointError: a net cannot be loaded, or the probabilities from a file differ from those of the nets.
    """
    if not to:
        raise ConfigError("no format is named", "--to", f"use some of {', '.join(FORMATS)}")
    for kind in to:
        extras.check(EXTRAS[kind])
    if "stablehlo" in to:
        formats.check_platforms(platforms)
    with stop_flag() as stop, Progress(stop=stop) as progress:
        predictor = Predictor(*workdirs, weights=weights_name, weights_dir=weights_dir, checkpoint=checkpoint)
        size = program.image_size(predictor.members)
        folder = files.resolve(out or f"exports/{predictor.name}", "--out")
        make_out(folder)
        made_from = [str(files.resolve(path, "--workdir")) for path in workdirs]
        made_from = made_from or [members.origin(predictor.name, weights_dir)]
        check_replaces(
            folder / RECORD,
            is_same=lambda earlier: earlier["of"] == made_from,
            describe=lambda earlier: f"exports of {', '.join(earlier['of'])}",
        )
        images = drawn_faces(size)
        record: dict[str, Any] = {"schema": 1, "of": made_from, "image_size": size, "faces": FACES}
        earlier = _earlier(folder)
        record["files"] = {kind: entry for kind, entry in earlier.items() if _is_there(folder, entry)}
        for done, kind in enumerate(dict.fromkeys(to)):
            progress.prepare(done, len(to), f"writing {kind}")
            with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as scratch:
                path = _write(kind, predictor, Path(scratch), platforms)
                written = {file.name: files.sha256(file) for file in sorted(Path(scratch).iterdir())}
                entry = {"file": path.name, "bytes": _bytes(path), "sha256": written[path.name], "written": written}
                if kind == "stablehlo":
                    entry["platforms"] = list(platforms)
                runs_here = kind != "stablehlo" or platform() in platforms
                expected = members.mean_probs(_compared(kind, predictor), {size: images}) if runs_here else None
                entry["difference"] = _difference(kind, path, images, expected) if runs_here else None
                known = earlier.get(kind, {"written": {}})
                if "written" in known:  # not those of version 0.2.0
                    check_unchanged(folder, written, known["written"])
                for name in written:
                    os.replace(path.with_name(name), folder / name)
            record["files"][kind] = entry
            write_json(folder / RECORD, record)
            progress.note(_line(folder / path.name, entry))
    return record


def _compared(kind: str, predictor: Predictor) -> list[members.Member]:
    """Return the nets whose predictions those of a file must be: in float32, if the format has nothing else."""
    return [formats.in_float32(net) for net in predictor.members] if kind == "onnx" else predictor.members


def _earlier(folder: Path) -> dict[str, Any]:
    """Return the entries of an earlier call."""
    try:
        return dict(json.loads((folder / RECORD).read_bytes())["files"])
    except (OSError, *files.MALFORMED):
        return {}


def _is_there(folder: Path, entry: Any) -> bool:
    """Return whether the file of an entry is still as it was written."""
    try:
        return files.sha256(folder / entry["file"]) == entry["sha256"]
    except (OSError, *files.MALFORMED):
        return False


def drawn_faces(size: int, count: int = FACES) -> np.ndarray:
    """Return drawn faces, uint8 RGB [count, size, size, 3], which are always the same."""
    faces = []
    for i in range(count):
        rng = np.random.default_rng([0, i])
        faces.append(synthetic.draw_face(rng, *synthetic.sample_label(rng), size)[0])
    return np.stack(faces)


def platform() -> str:
    """Return the platform of this process in the words of `formats.PLATFORMS`."""
    devices = jax.devices()[0]
    return devices.client.platform_version.split()[0].lower() if devices.platform == "gpu" else devices.platform


def _write(kind: str, predictor: Predictor, folder: Path, platforms: Sequence[str]) -> Path:
    """Write the files of a format and the program that loads them; return the path of the one to load."""
    path = folder / f"{_card_name(predictor) if kind == 'safetensors' else predictor.name}{FORMATS[kind]}"
    if kind == "safetensors":
        _write_tensors(predictor, folder)
    else:
        onnx = kind == "onnx"
        nets = predictor.members
        content = formats.onnx(nets, predictor.name) if onnx else formats.stablehlo(nets, platforms)
        files.replace(path, content)
        files.replace(folder / f"{path.name}.sha256", f"{hashlib.sha256(content).hexdigest()}  {path.name}\n")
    files.replace(folder / loaders.name(kind), loaders.content(kind))
    return path


def _write_tensors(predictor: Predictor, folder: Path) -> None:
    """Write each net's float32 weights with its card, and the card of the ensemble."""
    name, alone = _card_name(predictor), len(predictor.members) == 1
    names = [name] if alone else weights.member_names(name, [member.name for member in predictor.members])
    about = {card.name: _carried(card) for card in predictor.cards}
    for member, file in zip(predictor.members, names, strict=True):
        fields = about.get(member.name, {}) | {
            "config": member.config,
            "temperatures": member.temperatures,
            "chip_size": predictor.chip_size,
            "calibration": predictor.fields if alone else None,
            "open_from": member.open_from,
            "bucket_years": member.bucket_years,
        }
        weights.write(folder, file, member.variables, fields, storage="float32")
    if not alone:
        card = {"members": names, "chip_size": predictor.chip_size, "calibration": predictor.fields}
        weights.write_ensemble(folder, name, about.get(predictor.name, {}) | card)


def _carried(card: weights.Card) -> dict[str, Any]:
    """Return the fields of a card that also hold for a copy of its weights, such as the licence and the attribution."""
    return {name: value for name, value in card.about.items() if name not in OF_FILES}


def _card_name(predictor: Predictor) -> str:
    """Return the name of the weights and their card, which is not that of RECORD."""
    return unique(predictor.name, weights.RESERVED.__contains__)


def _difference(kind: str, path: Path, images: np.ndarray, expected: Any) -> float:
    """Return the largest difference of a probability in another process, which has only what a user of the file needs.

    Raises:
      CheckpointError: the file cannot be loaded, or gives other predictions.
    """
    with tempfile.TemporaryDirectory() as scratch:
        inputs, outputs = Path(scratch, "images.npy"), Path(scratch, "probabilities.npz")
        np.save(inputs, images)
        # Packages are looked for neither in the current folder, which "" names in PYTHONPATH, nor in the loader's (-P).
        folders = [str(Path(agegender_jax.__file__).parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, folders))}
        loader = path.parent / loaders.name(kind)
        command = [sys.executable, "-P", str(loader), str(path), str(inputs), str(outputs)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise CheckpointError(f"the file cannot be loaded: {reason}", str(path), "report this, with your versions")
        with np.load(outputs) as predictions:
            errors = [np.abs(predictions[head] - getattr(expected, head)).max() for head in ("age", "gender")]
            difference = float(max(errors))
    if not difference <= LIMIT:
        raise CheckpointError(
            f"the file's probabilities differ by up to {difference:.2g}", str(path), "do not use it; report this"
        )
    return difference


def _bytes(path: Path) -> int:
    """Return the size of a file, and of the weights whose card it is."""
    if path.suffix != ".json":
        return path.stat().st_size
    names = weights.card(path.stem, path.parent).members or [path.stem]
    return sum((path.parent / f"{name}.safetensors").stat().st_size for name in names)


def _line(path: Path, entry: dict[str, Any]) -> str:
    compared = (
        f"largest difference of a probability over {FACES} faces {entry['difference']:.1e}"
        if entry["difference"] is not None
        else f"not run: this machine is none of {', '.join(entry['platforms'])}"
    )
    return f"{path}: {entry['bytes'] / 1e6:.1f} MB, {compared}"
