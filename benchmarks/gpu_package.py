"""Make the folders that a GPU machine without network access needs in addition to the checkout, and check their size.

python -m benchmarks.gpu_package --crop_part1=crop_part1.tar --fairface=A,B [--utkface=UTKFace.tar] [--python=3.12]

scratch/gpu/wheels has the packages that such a machine needs in addition to jax, flax, optax, orbax-checkpoint and
PyTorch; downloading them needs pip and an index. crop_part1/ has the original bytes, fairface/ aligned chips
(`agegender align`) as WebP of 112 pixels, utkface/ both UTKFace sources as WebP of 128 pixels. The splits of the packed
faces are compared with those of the sources. The checkout, the wheels and one of these folders must stay below LIMIT
bytes, else the exit code is 2. Existing folders are kept. `gpu.sh` uses the folders.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from agegender_jax.errors import ConfigError
from agegender_jax.run.workdir import provenance
from benchmarks import pack_faces
from benchmarks.machine import ROOT

LIMIT = 64 * 2**20
WHEELS = (
    *("ml_collections", "grain", "array_record", "tensorflow-datasets", "tensorboardX", "importlib_resources"),
    *("dm-tree", "immutabledict", "simple-parsing", "docstring-parser", "tensorflow-metadata", "termcolor", "toml"),
    *("googleapis-common-protos", "portpicker"),
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


def pack(source: str, out: Path, size: int, quality: int) -> None:
    """Pack a source, compare the splits, and write what was done beside it as JSON."""
    count = pack_faces.pack(source, out, size, quality)
    about = {"images": count, "splits": pack_faces.compare_splits(source, str(out))}
    if out.suffix == ".zip":
        about |= {"pixels": size, "webp_quality": quality}
    about |= {"mib": round(out.stat().st_size / 2**20, 2), "revision": provenance.git_revision()}
    out.with_name(f"{out.name.partition('.')[0]}.json").write_text(json.dumps(about) + "\n")
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
    """Print the sizes; raise ConfigError if a copy is too large."""
    print("copy        checkout  wheels    data   total MiB")
    for name, parts in measured.items():
        print(f"{name:<12}" + "".join(f"{size / 2**20:8.1f}" for size in (*parts, sum(parts))))
    if over := [name for name, parts in measured.items() if sum(parts) > LIMIT]:
        raise ConfigError(
            f"more than {LIMIT >> 20} MiB with {', '.join(over)}", "the copy", "pack it smaller, or leave out files"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "scratch" / "gpu")
    parser.add_argument("--python", default="3.12", help="version on the GPU machine")
    parser.add_argument("--quality", type=int, default=80, help="of WebP")
    parser.add_argument("--crop_part1", help="the source, as data.source")
    parser.add_argument("--fairface", help="aligned chips, as data.source")
    parser.add_argument("--utkface", help="the other UTKFace images, as data.source")
    args = parser.parse_args()
    out = args.out
    packs = [
        (args.crop_part1, out / "crop_part1" / "crop_part1.tar.gz", 0),
        (args.fairface, out / "fairface" / "fairface.zip", 112),
        (args.utkface and args.crop_part1, out / "utkface" / "128" / "crop_part1.zip", 128),
        (args.utkface, out / "utkface" / "128" / "UTKFace.zip", 128),
    ]
    if not any((out / "wheels").glob("*.whl")):
        wheels(out / "wheels", args.python)
    for source, path, size in packs:
        if source and not path.exists():
            pack(source, path, size, args.quality)
    try:
        check(sizes(out))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
