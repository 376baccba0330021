"""Photos for agegender predict, and calls of it in this process."""

import json
import os
import zlib

import drawn_photos

from agegender_jax.run.predict import predict

HOSTILE = ("=cmd|' /C calc'!A0.png", "<img src=x onerror=alert(1)>.png", "\x1b[2Jline\nbreak.png", "-x.png", "@a.png")


def bomb(png):
    """Return a PNG whose header claims 200,000 x 200,000 pixels."""
    header = png[12:16] + (200_000).to_bytes(4, "big") * 2 + png[24:29]
    return png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:]


def write(root):
    """Write pictures of 0, 1 and 3 faces, every kind of bad file, and hostile names to a folder; return it."""
    face, empty = drawn_photos.face(size=96), drawn_photos.background(90, 120)
    crowd = drawn_photos.background(160, 420)
    for i in range(3):
        crowd = drawn_photos.paste(crowd, drawn_photos.face(2 + i), (70 + 140 * i, 80), 130)
    good = drawn_photos.encode(face)
    contents = {
        "one.png": good,
        "crowd.png": drawn_photos.encode(crowd),
        "none.png": drawn_photos.encode(empty),
        "sub/deeper/jpeg.JPG": drawn_photos.encode(face, "JPEG", quality=95),
        "bad/empty.jpg": b"",
        "bad/text.jpg": b"<html>not a picture</html>",
        "bad/cut.png": good[: len(good) // 2],
        "bad/bomb.png": bomb(good),
        "notes.txt": b"no picture",
        ".hidden.png": good,
        **dict.fromkeys(HOSTILE, good),
    }
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    os.mkfifo(root / "bad" / "pipe.jpg")
    (root / "bad" / "folder.jpg").mkdir()
    (root / "bad" / "outside.jpg").symlink_to("/etc/passwd")
    (root / "bad" / "loop").symlink_to(root)
    return root


def run(paths, out, **options):
    """Return the rows of predictions.jsonl by file, and the summary."""
    summary = predict([str(path) for path in paths], workdirs=[], out=str(out), **options)
    rows = {}
    for line in (out / "predictions.jsonl").read_text().splitlines():
        row = json.loads(line)
        rows.setdefault(row["file"], []).append(row)
    return rows, summary
