"""Bring trained nets back from another machine in small files, and restore runs from them.

python -m benchmarks.small_weights FOLDER --out=runs/gpu    # FOLDER holds the files that came back

For each run they contain the parameters and statistics of the best checkpoint and the files that `launch.evaluate`,
`calibrate`, `export` and `predict` read, but not the optimizer's state. Nets with dtype bfloat16 use the kernels of
their convolutions in bfloat16, so these are stored as bfloat16, which changes no prediction; everything else is stored
unchanged. The upper bytes of bfloat16 are compressed. Each file has at most PART bytes.
"""

import argparse
import io
import json
import math
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from agegender_jax import files
from agegender_jax.checkpoint import Checkpoints, load_variables, manifest, tree
from agegender_jax.cli.exits import guard
from agegender_jax.errors import CheckpointError
from agegender_jax.run.workdir import Workdir

PART = 15 * 2**20
FIELDS = ("config", "run", "inherited", "metrics", "calibration", "results", "predictions", "bad_images")
ANSWERS = "answers.json"
KERNEL = 4  # dimensions of a convolution's


def store(runs: Mapping[str, Path], name: str, folder: Path) -> list[Path]:
    """Write runs of one source to `folder`, made if absent, and return the paths.

    Args:
      runs: folder of each finished run by its name.
      name: prefix of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for run, workdir in runs.items():
        content = _packed(workdir / "checkpoints")
        for i in range(math.ceil(len(content) / PART)):
            written.append(folder / f"{name}-{run}.{i:02}.part")
            files.replace(written[-1], content[i * PART : (i + 1) * PART])
    files.replace(folder / f"{name}.tar.gz", _archive(runs))
    return [*written, folder / f"{name}.tar.gz"]


def restore(folder: Path, out: Path) -> list[Path]:
    """Make the runs of all files of `store` in `folder`, as `out`/<name>/<run>, and return their folders.

    Raises:
      CheckpointError: a part is missing, or a file would be written elsewhere.
    """
    made = []
    for path in sorted(folder.glob("*.tar.gz")):
        name = path.name.removesuffix(".tar.gz")
        _extract(path, (out / name).resolve())
        for workdir in sorted(path for path in (out / name).iterdir() if path.is_dir()):
            if (shared := out / name / "splits.csv").exists():
                files.replace(workdir / "splits.csv", shared.read_bytes())
            parts = sorted(folder.glob(f"{name}-{workdir.name}.*.part"))
            _unpack(b"".join(part.read_bytes() for part in parts), workdir / "checkpoints")
            made.append(workdir)
    return made


def _extract(path: Path, folder: Path) -> None:
    """Extract an archive's files, without `extractall`, whose filters the Python 3.11.2 of Debian lacks."""
    with tarfile.open(path) as archive:
        for member in filter(tarfile.TarInfo.isfile, archive):
            if not (file := (folder / member.name).resolve()).is_relative_to(folder):
                raise CheckpointError(f"{member.name!r} would be outside of {folder}", str(path), "copy it again")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(archive.extractfile(member).read())


def _archive(runs: Mapping[str, Path]) -> bytes:
    """Return a .tar.gz of the runs' small files; equal splits.csv are in it once."""
    stored, splits = io.BytesIO(), {run: Workdir(workdir).splits.read_bytes() for run, workdir in runs.items()}
    with tarfile.open(fileobj=stored, mode="w:gz") as archive:
        for run, workdir in runs.items():
            for path in [getattr(Workdir(workdir), field) for field in FIELDS] + [Path(workdir) / ANSWERS]:
                if path.exists():
                    archive.add(path, f"{run}/{path.name}")
        same = len(set(splits.values())) == 1
        for run, content in list(splits.items())[: 1 if same else None]:
            member = tarfile.TarInfo("splits.csv" if same else f"{run}/splits.csv")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stored.getvalue()


def _packed(checkpoints: Path) -> bytes:
    variables, config, step = load_variables(checkpoints)
    leaves = {name: np.asarray(leaf) for name, leaf in tree.named_leaves(variables).items()}
    halved = [name for name in leaves if config["model"]["dtype"] == "bfloat16" and leaves[name].ndim == KERNEL]
    header = {
        "config": config,
        "step": step,
        "metrics": manifest.read(checkpoints / str(step))["metrics"],
        "leaves": [[name, list(leaf.shape), name in halved] for name, leaf in leaves.items()],
    }
    bits = _joined([leaves[name].astype(jnp.bfloat16).view(np.uint16) for name in halved], np.uint16)
    arrays = {
        "header": np.frombuffer(files.to_json(header).encode(), np.uint8),
        "upper": _deflated((bits >> 8).astype(np.uint8)),
        "lower": (bits & 0xFF).astype(np.uint8),
        "other": _joined([leaf.astype(np.float32) for name, leaf in leaves.items() if name not in halved], np.float32),
    }
    stored = io.BytesIO()
    np.savez(stored, **arrays)
    return stored.getvalue()


def _unpack(content: bytes, checkpoints: Path) -> None:
    try:
        stored = np.load(io.BytesIO(content))
        header: dict[str, Any] = json.loads(stored["header"].tobytes())
        upper = np.frombuffer(zlib.decompress(stored["upper"].tobytes()), np.uint8).astype(np.uint16)
        halves = (upper << 8 | stored["lower"]).view(jnp.bfloat16).astype(np.float32)
        other = stored["other"]
    except (ValueError, OSError, EOFError, KeyError, zlib.error) as error:
        raise CheckpointError(f"parts are missing or damaged: {error}", str(checkpoints), "copy them again") from error
    variables: dict[str, Any] = {}
    for name, shape, halved in header["leaves"]:
        source, size = (halves, math.prod(shape)) if halved else (other, math.prod(shape))
        leaf, rest = source[:size].reshape(shape), source[size:]
        halves, other = (rest, other) if halved else (halves, rest)
        *parents, last = name.split("/")
        node = variables
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    saved = Checkpoints(checkpoints)
    saved.save(header["step"], variables, header["config"], header["metrics"])
    saved.finish()
    saved.close()


def _joined(arrays: list[np.ndarray], dtype: Any) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *(array.ravel() for array in arrays)])


def _deflated(values: np.ndarray) -> np.ndarray:
    """Return bytes compressed by Huffman codes alone: quick, and matches do not repeat in weights."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_HUFFMAN_ONLY)
    return np.frombuffer(packer.compress(values.tobytes()) + packer.flush(), np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="with the files that came back")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of the runs")
    args = parser.parse_args()
    for workdir in restore(args.folder, args.out):
        print(workdir)


if __name__ == "__main__":
    guard(main)
