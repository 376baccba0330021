"""Small sources for the tests: the same files as a folder or an archive of each kind."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

from agegender_jax.data import sources

DATE = "20170116174525125.jpg.chip.jpg"
FACES = {f"{age}_{age % 2}_{age % 5}_{DATE}": f"face of {age}".encode() for age in (1, 20, 35, 47, 71, 110)}
FORMS = ("folder", "tar", "tar.gz", "tgz", "zip")


def write(form: str, folder: Path, files: dict[str, bytes]) -> str:
    """Write the files into a folder or archive called `faces`; return its path."""
    if form == "folder":
        for name, data in files.items():
            (folder / "faces" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "faces" / name).write_bytes(data)
        return str(folder / "faces")
    path = folder / f"faces.{form}"
    if form == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(zipfile.ZipInfo(name), data)
        return str(path)
    return write_tar(path, [member(name, data) for name, data in files.items()])


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = "") -> tuple:
    """Return a tar member of any kind, for write_tar."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(data), target
    return info, data


def write_tar(path: Path, members: list[tuple]) -> str:
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def pack(folder: Path, path: Path) -> str:
    """Write a folder's content with its links into an archive; return its path."""
    if path.suffix != ".zip":
        with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as tar:
            tar.add(folder, "")
        return str(path)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_symlink():
                link = zipfile.ZipInfo(str(file.relative_to(folder)))
                link.external_attr = 0o120777 << 16
                archive.writestr(link, os.readlink(file))
            else:
                archive.write(file, str(file.relative_to(folder)))
    return str(path)


def reasons(spec: str) -> dict[str, str | None]:
    """Return, for each file, the reason why it is unusable, or None."""
    return {item.file: item.reason for item in sources.read(spec)}
