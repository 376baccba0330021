"""Folders with everything that may be named like a picture: prepared and predicted for, each file with a reason."""

import collections
import functools
import io
import json
import os
import resource
import stat
import struct
import time
import zlib

import drawn_photos
import numpy as np
import small_weights
from PIL import Image, ImageCms

from agegender_jax.data.prepare import prepare
from agegender_jax.run.predict import predict
from tests.faults.mutations import mutate
from tests.faults.registry import Outcome, point

HOSTILE = b"a b", "\N{GRINNING FACE}".encode(), b"caf\xe9", b"x" * 200, b"new\nline", b"=cmd|' !A0", b"<b>"
FIRST = 20170101000000000  # number of the first picture
LIMIT_S, GROWTH_MB = 30, 1200  # CPU seconds for the whole folder
CROWD = 50  # faces of one picture
FACES = {"crowd": CROWD, **dict.fromkeys(("no face", "a pixel", "a line", "a column"), 0)}  # of others: 1
UNCERTAIN = {"one bit", *(f"exif {i}" for i in range(3, 9))}  # on their side or coarse: a face may not be detected


def name(number):
    return f"{20 + number % 60}_0_0_{FIRST + number}.jpg"


def encode(image, form="PNG", **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def png(width, height, extra=b""):
    """Return a PNG whose header claims a size that its pixels do not have."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(b"\0" * 64))
    return b"\x89PNG\r\n\x1a\n" + header + extra + rows + chunk(b"IEND", b"")


def text_chunk():
    body = b"Comment\0\0" + zlib.compress(b"\0" * 2**27)
    return struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))


@functools.cache
def good_pictures():
    """Return pictures of every form, and their pixels as they must be read; None where only the size counts."""
    face = Image.fromarray(drawn_photos.face(size=96))
    pixels = np.asarray(face)
    wide = Image.fromarray(np.asarray(face.convert("L")).astype(np.uint16) * 257)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    clear = face.convert("RGBA")
    clear.putalpha(255)
    contents = {
        "jpeg": encode(face, "JPEG", quality=95),
        "cmyk": encode(face.convert("CMYK"), "JPEG", quality=95),
        "png": encode(face),
        "sixteen bits": encode(wide),
        "alpha": encode(clear),
        "grey and alpha": encode(face.convert("LA")),
        "palette": encode(face.quantize(256)),
        "one bit": encode(face.convert("1")),
        "webp": encode(face, "WEBP", quality=95),
        "frames": encode(face, "GIF", save_all=True, append_images=[face.rotate(90)]),
        "moving": encode(face, "WEBP", save_all=True, append_images=[face.rotate(90)], quality=95),
        "profile": encode(face, icc_profile=profile),
        "a pixel": encode(Image.new("RGB", (1, 1))),
        "a line": encode(Image.new("RGB", (65000, 1))),
        "a column": encode(Image.new("RGB", (1, 65000))),
    }
    contents["crowd"] = encode(crowd(), "JPEG", quality=95)
    contents["no face"] = encode(Image.fromarray(drawn_photos.background(300, 400)))
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        contents[f"exif {orientation}"] = encode(face, "JPEG", quality=95, exif=exif)
    return contents, pixels


def crowd():
    """Return a picture of CROWD faces in rows of ten."""
    photo = drawn_photos.background(120 * CROWD // 10 + 40, 1240)
    for i in range(CROWD):
        centre = 80 + 120 * (i % 10), 80 + 120 * (i // 10)
        photo = drawn_photos.paste(photo, drawn_photos.face(2 + i % 5), centre, 110)
    return Image.fromarray(photo)


def kind_of(file):
    """Return the kind of the usable picture of this name; the last one is a link to the first."""
    kinds, number = list(good_pictures()[0]), number_of(file)
    return kinds[number] if number < len(kinds) else kinds[0]


def number_of(file):
    return int(file.rpartition("_")[2].removesuffix(".jpg")) - FIRST


def bad_pictures(good):
    """Return contents that are no usable picture."""
    return {
        "empty": b"",
        "text": b"hello",
        "html": b"<html><body>404 Not Found</body></html>",
        "half": good["jpeg"][: len(good["jpeg"]) // 2],
        "ten bytes fewer": good["png"][:-10],
        "200k x 200k": png(200_000, 200_000),
        "10k x 10k": png(10_000, 10_000),
        "a huge text": png(2, 2, text_chunk()),
        "tiff": encode(Image.new("RGB", (8, 8)), "TIFF"),
        "a tar": b"\0" * 1024,
    }


def build(root, rng, junk):
    """Make the folder; return the names of its usable and of its unusable pictures."""
    good, _ = good_pictures()
    start, usable, unusable = os.fsencode(root), set(), set()

    def add(names, folder, make):
        os.makedirs(os.path.join(start, folder), exist_ok=True)
        path = os.path.join(start, folder, os.fsencode(name(len(usable) + len(unusable))))
        make(path)
        names.add(os.fsdecode(os.path.relpath(path, start)))
        return path

    def write(content):
        def make(path):
            with open(path, "wb") as file:
                file.write(content)

        return make

    for i, content in enumerate(good.values()):
        add(usable, HOSTILE[i % len(HOSTILE)], write(content))
    for content in bad_pictures(good).values():
        add(unusable, b"bad", write(content))
    values = [good[kind] for kind in ("jpeg", "png", "webp", "frames", "palette")]
    for i in range(junk):
        add(unusable, b"junk", write(mutate(values[i % 5], values[0], rng)))
    makers = {
        "fifo": os.mkfifo,
        "folder": os.mkdir,
        "loop": lambda path: os.symlink(os.path.basename(path), path),
        "dangling": lambda path: os.symlink(b"missing", path),
        "outside": lambda path: os.symlink(b"/etc/passwd", path),
        "device": lambda path: os.symlink(b"/dev/zero", path),
        "socket": lambda path: os.mknod(path, 0o600 | stat.S_IFSOCK),
        "sparse": lambda path: open(path, "wb").truncate(10 * 2**30),
    }
    for make in makers.values():
        add(unusable, b"other", make)
    os.symlink(start, os.path.join(start, b"other", b"again"))
    add(usable, b"other", lambda path: os.link(os.path.join(start, b"a b", os.fsencode(name(0))), path))
    for hidden in (b"__MACOSX", b".trash"):
        add(set(), hidden, write(good["png"]))
    for unnoticed in (b".DS_Store", b"notes.txt", b"list.csv"):
        write(b"a,b\n1,2\n")(os.path.join(start, unnoticed))
    return usable, unusable


@point("a folder of hostile files: prepared, each read or listed with its reason, no hang", push=30, release=300)
def prepared(trials, rng, folder):
    """Hostile names, formats and modes, bombs, links, a FIFO, a socket, a device, a sparse file, mutated pictures."""
    root = folder / "t"
    usable, unusable = build(root, rng, trials)
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = prepare(str(root), str(folder / "cache"), max_bad=1.0)
    read, listed = set(result.file), {file for file, _ in result.bad}
    failures = [f"{file!r} is not used" for file in usable - read]
    failures += [f"{file!r} is used" for file in read & unusable if "junk" not in file]
    both = (read & listed) | ((usable | unusable) - read - listed)
    failures += [f"{file!r} is used and listed, or neither" for file in both]
    failures += [f"{file!r} has no reason" for file, reason in result.bad if not reason]
    failures += pixels_differ(result)
    figures = {"usable": len(read), "listed": len(listed)}
    return Outcome(len(usable | unusable), failures + too_much(started, before), figures)


def pixels_differ(result):
    """Return a line for each picture of the upright face whose pixels are not the face's."""
    good, face = good_pictures()
    kinds, images, failures = list(good), result.images(face.shape[0]), []
    for i, file in enumerate(result.file):
        number = number_of(file)
        kind = kinds[number] if number < len(kinds) else ""
        if kind in ("jpeg", "cmyk", "png", "alpha", "palette", "webp", "frames", "moving", "profile"):
            difference = np.abs(images[i].astype(int) - face).mean()
            if difference > (0 if kind in ("png", "alpha", "profile") else 8):
                failures.append(f"{kind} differs by {difference:.1f}")
    return failures


def too_much(started, before):
    seconds = time.process_time() - started
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    failures = [f"{seconds:.0f} s of CPU"] if seconds > LIMIT_S else []
    return failures + ([f"{growth:.0f} MB more"] if growth > GROWTH_MB else [])


@point("agegender predict on a folder of hostile files: a row with status and reason for each", push=30, release=300)
def answered(trials, rng, folder):
    root = folder / "t"
    usable, unusable = build(root, rng, trials)
    (folder / "weights").mkdir()
    nets = {"weights": "one", "weights_dir": str(small_weights.write(folder / "weights"))}
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    summary = predict([str(root)], workdirs=[], out=str(folder / "out"), annotate=True, gallery=True, **nets)
    rows, faces = {}, collections.defaultdict(list)  # the last row, and the statuses of all rows, of each file
    for line in (folder / "out" / "predictions.jsonl").read_text().splitlines():
        row = json.loads(line)
        file = os.path.relpath(row["file"], root)
        rows[file] = row
        faces[file].append(row["status"])
    failures = [f"{file!r} has no row" for file in (usable | unusable) - rows.keys()]
    failures += [f"{file!r} is no picture" for file in rows.keys() - usable - unusable]
    for file, row in rows.items():
        if file in usable and row["status"] == "unreadable":
            failures.append(f"{file!r} is unreadable: {row['reason']}")
        elif row["status"] == "unreadable" and not row["reason"]:
            failures.append(f"{file!r} has no reason")
        elif file in unusable and "junk" not in file and row["status"] != "unreadable":
            failures.append(f"{file!r} is {row['status']}")
    failures += [text for file in usable if (text := wrong_faces(kind_of(file), faces[file]))]
    return Outcome(len(rows), failures + too_much(started, before), summary["statuses"])


def wrong_faces(kind, statuses):
    """Return what is wrong with the rows of a usable picture, or ""."""
    count = FACES.get(kind, 1)
    expected = [["no_face"]] if count == 0 or kind in UNCERTAIN else []
    predicted = len(statuses) == count and set(statuses) <= {"ok", "unsure"}
    return "" if statuses in expected or (count and predicted) else f"{kind}: {len(statuses)} rows, {set(statuses)}"
