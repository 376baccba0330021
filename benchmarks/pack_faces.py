"""Pack the faces of a source into one small file, for a machine to which only little can be copied.

python -m benchmarks.pack_faces --source=crop_part1.tar --out=crop_part1.tar.gz                # original bytes
python -m benchmarks.pack_faces --source=A,B --out=fairface.zip --size=112 --quality=85        # WebP, smaller

A .tar.gz contains the original bytes, which give the same images and the same split. A .zip contains each usable image
as WebP (its centred square at `--size` pixels, or at its own size if that is smaller), the labels, and the hashes of
the original pixels. Train on it after calling `prepare` from this file, which gives the prepared images these hashes,
so that their groups, split and splits.csv are those of the original. `--check` compares the split of each file with
that of the original.
"""

import argparse
import csv
import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from agegender_jax.cli.exits import guard
from agegender_jax.data import cache, checksums, near_duplicates, prepared_files, sources, splits
from agegender_jax.data import prepare as prepare_lib
from agegender_jax.data.decoding import decode, resize
from agegender_jax.data.parallel_map import parallel_map
from agegender_jax.data.prepared_source import Prepared
from agegender_jax.data.resolve import resolve, source_names
from agegender_jax.errors import DataError
from agegender_jax.labels import GENDERS

ORIGINALS = "originals.npz"  # in the .zip: files, and HASHES of the original pixels
LABELS = "labels.csv"
HASHES = ("sha256", "content", "dhash")


def pack(spec: str, out: Path, size: int, quality: int) -> int:
    """Write the images of a source to `out`, a .tar.gz or a .zip, and return their number."""
    out.parent.mkdir(parents=True, exist_ok=True)
    return pack_smaller(spec, out, size, quality) if out.suffix == ".zip" else pack_originals(spec, out)


def pack_originals(spec: str, out: Path) -> int:
    """Write the original bytes of a source.

    Raises:
      DataError: its labels are not in the file names.
    """
    count = 0
    with (
        open(out, "wb") as file,
        gzip.GzipFile("", "wb", 9, file, 0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for item in sources.read(spec):
            if item.label is not None and item.label.age_years < 0:
                raise DataError("the labels are in a CSV, not in the file names", spec, "pack it to a .zip")
            if item.data is not None:
                member = tarfile.TarInfo(item.file)
                member.size = len(item.data)
                archive.addfile(member, io.BytesIO(item.data))
                count += 1
    return count


def pack_smaller(spec: str, out: Path, size: int, quality: int) -> int:
    """Write WebP images, labels and the hashes of the originals."""
    prepared = prepare_lib.prepare(spec)
    order = np.argsort(prepared.file)

    def smaller(i: int) -> bytes:
        pixels = decode(prepared.encoded(i))
        stored = io.BytesIO()
        Image.fromarray(resize(pixels, min(size, *pixels.shape[:2]))).save(stored, "WEBP", quality=quality, method=6)
        return stored.getvalue()

    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for i, data in zip(order, parallel_map(smaller, order), strict=True):
            archive.writestr(str(prepared.file[i]), data)
        if (labels := _labels(prepared)) is not None:
            archive.writestr(LABELS, labels, zipfile.ZIP_DEFLATED)
        stored = io.BytesIO()
        np.savez_compressed(stored, files=prepared.file, dhash=prepared.dhash, **_digests(prepared))
        archive.writestr(ORIGINALS, stored.getvalue())
    return len(order)


def _labels(prepared: Prepared) -> str | None:
    """Return a FairFace CSV of the images whose ages are groups; None if there are none."""
    text, grouped = io.StringIO(), np.flatnonzero(prepared.age_years < 0)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "age", "gender", "race"))
    for i in grouped:
        gender = GENDERS[prepared.gender[i]].title()
        writer.writerow((prepared.file[i], prepared.age_text[i], gender, prepared.race_text[i]))
    return text.getvalue() if len(grouped) else None


def _digests(prepared: Prepared) -> dict[str, np.ndarray]:
    """Return the hexadecimal hashes as uint8 [N, 32]."""
    texts = {"sha256": prepared.sha256, "content": prepared.content}
    return {
        name: np.frombuffer(bytes.fromhex("".join(hexes)), np.uint8).reshape(-1, 32) for name, hexes in texts.items()
    }


def prepare(spec: str, cache_dir: str | None = None, progress: Callable | None = None) -> Prepared:
    """Prepare a source in the user's cache; packed images get the hashes and the groups of the originals.

    Raises:
      DataError: as `data.prepare`, or a packed image has no hashes.
    """
    prepared = prepare_lib.prepare(spec, cache_dir, progress=progress)
    originals = _originals(spec)
    if not originals:
        return prepared
    position = {str(file): i for i, file in enumerate(prepared.file)}
    columns = {name: getattr(prepared, name).copy() for name in HASHES}
    for prefix, hashed in originals.items():
        rows = [position.pop(f"{prefix}{file}") for file in hashed["files"]]
        for name in ("sha256", "content"):
            columns[name][rows] = [digest.tobytes().hex() for digest in hashed[name]]
        columns["dhash"][rows] = near_duplicates.whole(hashed["dhash"])
    if all(np.array_equal(columns[name], getattr(prepared, name)) for name in HASHES):
        return prepared
    columns["group"] = splits.groups(columns["content"], columns["dhash"], progress)
    columns["mirrored"] = splits.mirrored(columns["dhash"], prepared.thumbnail)
    _replace_columns(prepared.folder, columns)
    return prepare_lib.prepare(spec, cache_dir, progress=progress)


def _originals(spec: str) -> dict[str, dict[str, np.ndarray]]:
    """Return the content of ORIGINALS of each packed part of a source, by what precedes its files' names."""
    originals, paths = {}, resolve(spec)
    for name, path in zip(source_names(spec), paths, strict=True):
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                if ORIGINALS in archive.namelist():
                    content = np.load(io.BytesIO(archive.read(ORIGINALS)))
                    originals[f"{name}/" if len(paths) > 1 else ""] = dict(content)
    return originals


def _replace_columns(folder: Path, columns: dict[str, np.ndarray]) -> None:
    """Replace columns in the index of prepared data. After a kill in between, they count as damaged and are remade."""
    index = folder / prepared_files.INDEX
    with cache.locked(folder):
        with np.load(index) as stored:
            content = dict(stored) | {f"column_{name}": values for name, values in columns.items()}
        (folder / checksums.NAME).unlink()
        with open(index, "wb") as file:
            np.savez(file, **content)
        checksums.write(folder)


def compare_splits(spec: str, packed: str, cache_dir: str | None = None) -> dict[str, int]:
    """Return the number of images in each split; the splits, labels and groups of the packed files are the originals'.

    Raises:
      DataError: a packed file differs.
    """
    tables = []
    for faces in (prepare_lib.prepare(spec, cache_dir), prepare(packed, cache_dir)):
        split = splits.assign(faces.group, faces.content, seed=0)
        labels = (faces.age_years, faces.age[:, 0], faces.age[:, 1], faces.gender, faces.race, faces.race_text)
        groups = splits.group_ids(faces.group, faces.sha256)
        tables.append({row[0]: row[1:] for row in zip(faces.file, split, faces.sha256, groups, *labels, strict=True)})
    differing = [file for file in tables[0] | tables[1] if tables[0].get(file) != tables[1].get(file)]
    if differing:
        raise DataError(
            f"{len(differing)} packed images differ", f"{differing[0]} in {packed}", "pack the source again"
        )
    names, counts = np.unique([row[0] for row in tables[1].values()], return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--source", required=True, help="as data.source")
    parser.add_argument("--out", type=Path, required=True, help="a .tar.gz of the original bytes, or a smaller .zip")
    parser.add_argument("--size", type=int, default=128, help="pixels a side, .zip only")
    parser.add_argument("--quality", type=int, default=85, help="of WebP, .zip only")
    parser.add_argument("--check", action="store_true", help="compare the splits")
    args = parser.parse_args()
    count = pack(args.source, args.out, args.size, args.quality)
    print(f"{args.out}: {count} images, {args.out.stat().st_size / 2**20:.1f} MiB")
    if args.check:
        print(f"the splits are equal: {compare_splits(args.source, str(args.out))}")


if __name__ == "__main__":
    guard(main)
