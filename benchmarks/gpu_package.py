"""Make the folders that a GPU machine without network access needs in addition to the checkout, and check their size.

python -m benchmarks.gpu_package --crop_part1=crop_part1.tar --fairface=A,B [--utkface=UTKFace.tar] [--python=3.12]

scratch/gpu/wheels has the packages that such a machine needs in addition to jax, flax, optax, orbax-checkpoint,
matplotlib, jinja2, safetensors, tqdm, wrapt, six, cloudpickle and PyTorch; downloading them needs pip and an index.
crop_part1/ has images of 200 pixels, fairface/ aligned chips (`agegender align`) of 112 pixels, utkface/ both UTKFace
sources at 128 pixels, all as WebP. The splits of the packed faces are compared with those of the sources. If the
wheels, one of these folders, or the two with the checkout are larger than WHEELS_LIMIT, DATA_LIMIT and LIMIT bytes, the
exit code is 2. What is complete is kept. `gpu.sh` uses the folders.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from agegender_jax.cli.exits import guard
from agegender_jax.data import resolve
from agegender_jax.errors import ConfigError
from agegender_jax.run.align import SETTINGS as ALIGNED
from agegender_jax.run.workdir import provenance
from benchmarks import pack_faces
from benchmarks.machine import ROOT

LIMIT = 63 * 2**20  # the machine takes 64 MiB
WHEELS_LIMIT, DATA_LIMIT = 11 * 2**20, 31 * 2**20  # the rest of LIMIT is for the checkout
QUALITY = {"crop_part1": 80, "fairface": 70, "utkface": 70}  # of WebP, so that they fit
WHEELS = (  # what `launch.train` imports; tensorflow-datasets declares more
    *("ml_collections", "grain", "array_record", "tensorflow-datasets", "tensorboardX", "importlib_resources"),
    *("dm-tree", "immutabledict", "tensorflow-metadata", "toml", "portpicker"),
)
SOURCE_ONLY = ("promise",)  # published without a wheel; pure Python
GLIBC = (28, 27, 24, 17)  # of the manylinux platforms


def wheels(folder: Path, python: str) -> None:
    """Download the wheels of WHEELS for Linux on x86-64 and a Python version."""
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in GLIBC] + ["--platform=manylinux2014_x86_64"]
    target = ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}", *platforms]
    pip = [sys.executable, "-m", "pip", "-q"]
    subprocess.run([*pip, "download", "--no-deps", *target, "-d", folder, *WHEELS], check=True)
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, *SOURCE_ONLY], check=True)


def lacking(folder: Path) -> list[str]:
    """Return the packages of which the folder has no wheel."""
    there = {path.name.partition("-")[0].lower() for path in folder.glob("*.whl")}
    return [name for name in (*WHEELS, *SOURCE_ONLY) if name.lower().replace("-", "_") not in there]


def check_aligned(source: str) -> None:
    """Raise ConfigError unless every part of a source is a folder that `agegender align` wrote."""
    for path in resolve.resolve_existing(source):
        if not (path / ALIGNED).is_file():
            raise ConfigError(
                "these are not aligned chips", str(path), "name the folder of agegender align, such as aligned/fairface"
            )


def pack(source: str, out: Path, size: int, quality: int) -> None:
    """Pack a source, compare the splits, and write what was done beside it as JSON; nothing if this is complete."""
    described = out.with_name(f"{out.name.partition('.')[0]}.json")
    if out.exists() and described.exists():
        return
    with tempfile.TemporaryDirectory(prefix="pack-") as scratch:
        packed = Path(scratch, out.name)
        count = pack_faces.pack(source, packed, size, quality)
        about = {"images": count, "splits": pack_faces.compare_splits(source, str(packed))}
        about |= {"pixels": size, "webp_quality": quality}
        about |= {"mib": round(packed.stat().st_size / 2**20, 2), "revision": provenance.git_revision()}
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(packed, out)
    described.write_text(json.dumps(about) + "\n")
    print(f"{out}: {about}", flush=True)


def sizes(out: Path) -> dict[str, tuple[int, int, int]]:
    """Return bytes of the checkout, of the wheels and of the data for each folder of data."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    tree = _bytes(ROOT / name for name in listed.stdout.decode().split("\0") if name)
    packages = _bytes((out / "wheels").rglob("*"))
    folders = sorted(path for path in out.iterdir() if path.is_dir() and path.name != "wheels")
    return {folder.name: (tree, packages, _bytes(folder.rglob("*"))) for folder in folders}


def _bytes(paths: Iterable[Path]) -> int:
    return sum(path.lstat().st_size for path in paths if path.is_file())


def check(measured: dict[str, tuple[int, int, int]]) -> None:
    """Print the sizes, also without the wheels, which a machine keeps; raise ConfigError if a part is too large."""
    print("copy        checkout  wheels    data   total without wheels, MiB")
    for name, parts in measured.items():
        sizes = (*parts, sum(parts), parts[0] + parts[2])
        print(f"{name:<12}" + "".join(f"{size / 2**20:8.1f}" for size in sizes))
    for name, (tree, packages, data) in measured.items():
        for what, size, limit in (
            ("the wheels", packages, WHEELS_LIMIT),
            (name, data, DATA_LIMIT),
            (f"the checkout, the wheels and {name}", tree + packages + data, LIMIT),
        ):
            if size > limit:
                fix = "lower QUALITY in benchmarks/gpu_package.py, or leave out files"
                raise ConfigError(f"more than {limit >> 20} MiB with {name}", what, fix)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "scratch" / "gpu")
    parser.add_argument("--python", default="3.12", help="version on the GPU machine")
    parser.add_argument("--crop_part1", help="the source, as data.source")
    parser.add_argument("--fairface", help="aligned chips, as data.source")
    parser.add_argument("--utkface", help="the other UTKFace images, as data.source")
    args = parser.parse_args()
    out = args.out
    packs = [
        (args.crop_part1, "crop_part1", "crop_part1.zip", 200),
        (args.fairface, "fairface", "fairface.zip", 112),
        (args.utkface and args.crop_part1, "utkface", "128/crop_part1.zip", 128),
        (args.utkface, "utkface", "128/UTKFace.zip", 128),
    ]
    if args.fairface:
        check_aligned(args.fairface)
    if lacking(out / "wheels"):
        wheels(out / "wheels", args.python)
    for source, folder, name, size in packs:
        if source:
            pack(source, out / folder / name, size, QUALITY[folder])
    check(sizes(out))


if __name__ == "__main__":
    guard(main)
