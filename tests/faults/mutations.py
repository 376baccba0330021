"""Pictures, archives and CSVs whose bytes are changed at random: usable, or refused with a reason, soon."""

import io
import pathlib
import random
import tarfile
import tempfile
import zipfile
from collections import Counter

import numpy as np
from PIL import Image

from agegender_jax.data import sources
from agegender_jax.data.decoding import DecodeError, decode
from agegender_jax.errors import DataError
from agegender_jax.run.pictures.picture_files import open_pictures
from tests.faults import damage, isolated_calls
from tests.faults.registry import Outcome, point

MEMORY_MB = 1500  # four copies of the largest picture that is decoded


def mutate(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Return bytes with flipped bits, without a part, with a part twice, with junk, or spliced with other bytes."""
    place, size = rng.randrange(len(content)), rng.randrange(1, 1 + min(200, len(content)))
    start = rng.randrange(min(64, len(content)))
    changes = (
        lambda: damage.flip(content, rng, rng.choice((1, 2, 8, 32))),
        lambda: damage.flip(content[:64], rng, 2) + content[64:],
        lambda: content[:place],
        lambda: content[:place] + content[place + size :],
        lambda: content[: place + size] + content[place:],
        lambda: content[:place] + rng.randbytes(size) + content[place:],
        lambda: content[:place] + other[rng.randrange(len(other)) :],
        lambda: (
            content[:start] + rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff")) + content[start + 4 :]
        ),
    )
    return rng.choice(changes)()


def pictures() -> list[bytes]:
    """Return a picture of each format and mode."""
    y, x = np.mgrid[0:72, 0:96]
    image = Image.fromarray(np.stack([x * 2, y * 3, (x * y) % 251], -1).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = (
        ("JPEG", "RGB", {"quality": 90, "exif": exif}),
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "CMYK", {}),
        ("PNG", "RGB", {}),
        ("PNG", "P", {"transparency": 3}),
        ("PNG", "LA", {}),
        ("PNG", "I;16", {}),
        ("WEBP", "RGB", {"quality": 80}),
        ("WEBP", "RGBA", {"lossless": True}),
        ("GIF", "P", {"save_all": True, "append_images": [image.convert("P")]}),
        ("BMP", "RGB", {}),
    )
    encoded = []
    for form, mode, options in kinds:
        out = io.BytesIO()
        (image.convert("L").convert("I").convert(mode) if mode == "I;16" else image.convert(mode)).save(
            out, form, **options
        )
        encoded.append(out.getvalue())
    return encoded


def read_picture(content):
    """Return whether a picture is decoded or why not; raise for anything else."""
    try:
        pixels = decode(content)
    except DecodeError as error:
        assert error.reason and "\n" not in error.reason and len(error.reason) < 150, error.reason
        return "refused"
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    return "decoded"


def read_source(named):
    """Read the bytes of an archive or a CSV as a source of training and as pictures to predict for."""
    name, content = named
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, name)
        path.write_bytes(content)
        for image in ("20_0_0_20170101000000000.jpg", "images/1.jpg") if name.endswith(".csv") else ():
            place = path.parent / image
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(pictures()[0])
        result = "read"
        for spec in (path, path.parent) if name.endswith(".csv") else (path,):
            try:
                assert all(item.data is not None or item.reason for item in sources.read(str(spec)))
            except DataError as error:
                assert error.what and error.fix
                result = "refused"
        if not name.endswith(".csv"):
            try:
                with open_pictures([str(path)]) as files:
                    for file in files:
                        file.source()
            except DataError:
                result = "refused"
        return result


def count(trials, function, items):
    results = list(isolated_calls.each(function, items))
    failures = [f"trial {i}: {result.problem}" for i, result in enumerate(results) if result.problem]
    most = max(result.memory_mb for result in results)
    if most > MEMORY_MB:
        failures.append(f"{most:.0f} MB")
    figures = dict(Counter(str(result.value) for result in results))
    slowest = max(result.seconds for result in results)
    return Outcome(trials, failures, figures | {"slowest_s": round(slowest, 2), "memory_mb": round(most)})


@point(
    "a mutated picture: decoded or refused with a reason within 5 s, memory bounded, no crash", push=200, release=2000
)
def mutated_pictures(trials, rng, folder):
    good = pictures()
    return count(trials, read_picture, [mutate(good[i % len(good)], rng.choice(good), rng) for i in range(trials)])


def archives() -> dict[str, bytes]:
    """Return small archives by name."""
    contents = {f"faces/{20 + i}_0_0_2017010100000000{i}.jpg": picture for i, picture in enumerate(pictures()[:4])}
    contents["faces/labels.csv"] = csvs()["labels.csv"]
    result = {}
    for name, mode in (("a.tar", "w"), ("a.tar.gz", "w:gz")):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode=mode) as archive:
            for path, content in contents.items():
                member = tarfile.TarInfo(path)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            link = tarfile.TarInfo("faces/30_0_0_20170101000000009.jpg")
            link.type, link.linkname = tarfile.SYMTYPE, "../faces/20_0_0_20170101000000000.jpg"
            archive.addfile(link)
        result[name] = out.getvalue()
    for name, method in (("a.zip", zipfile.ZIP_DEFLATED), ("b.zip", zipfile.ZIP_STORED)):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as archive:
            for path, content in contents.items():
                archive.writestr(path, content)
        result[name] = out.getvalue()
    return result


def csvs() -> dict[str, bytes]:
    """Return small CSVs as FairFace's by name."""
    ages = ("0-2", "3-9", "20-29", "more than 70")
    rows = "".join(f"images/{i}.jpg,{age},Male,East Asian,True\r\n" for i, age in enumerate(ages))
    text = f"file,age,gender,race,service_test\r\n{rows}"
    semicolons = text.replace(",", ";").replace("images/0.jpg", '"images/0.jpg"')
    return {"labels.csv": text.encode(), "excel.csv": semicolons.encode("utf-16"), "bom.csv": text.encode("utf-8-sig")}


def mutated_files(trials, rng, good):
    names = list(good)
    others = list(good.values())
    return [
        (names[i % len(names)], mutate(good[names[i % len(names)]], rng.choice(others), rng)) for i in range(trials)
    ]


@point("a mutated tar, tar.gz or zip: read or refused with a reason within 5 s, memory bounded", push=24, release=200)
def mutated_archives(trials, rng, folder):
    return count(trials, read_source, mutated_files(trials, rng, archives()))


@point("a mutated FairFace CSV: read or refused with a reason within 5 s, memory bounded", push=24, release=200)
def mutated_csvs(trials, rng, folder):
    return count(trials, read_source, mutated_files(trials, rng, csvs()))
