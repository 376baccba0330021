"""Prepare a source once, store the result under the source's fingerprint, and reuse it."""

import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from agegender_jax import files
from agegender_jax.data import (
    cache,
    fingerprint_cache,
    named_sources,
    prepared_files,
    resolve,
    source_copy,
    sources,
    unusable_files,
)
from agegender_jax.data.cache import Progress
from agegender_jax.data.prepared_source import Prepared
from agegender_jax.data.unusable_files import OnBad


def prepare(
    spec: str,
    cache_dir: str | None = None,
    max_bad: float = 0.01,
    progress: Progress | None = None,
    on_bad: OnBad | None = None,
) -> Prepared:
    """Read, check, decode and group the images of `spec`, or load the prepared data from an earlier start.

    The source is copied to a temporary file in the cache, so that it is read only once. It is not read at all if the
    names, sizes, inodes and times of its files have not changed since an earlier start. Preparation needs about 2 kB of
    memory per image.

    Args:
      spec: as for `sources.read`.
      cache_dir: folder of the prepared data; the user's cache folder if None or "".
      max_bad: largest share of unusable files, 0 to 1.
      progress: called with (done, total, text) in each phase; its exceptions end the work.
      on_bad: writes a list of the unusable files and returns its path; called before an error about them is raised.

    Raises:
      DataError: no usable image, or more than `max_bad` of the files unusable.
      ConfigError: `cache_dir` cannot be written, or threads cannot be started.
      OSError: the disk is full.
    """
    from agegender_jax.data import tfds_builder  # here: its absence (it needs TFDS) is not damage to prepared data

    folder = resolve.cache_folder(cache_dir)
    resolve.check_outside(spec, files.resolve(folder, "data.cache_dir"), "data.cache_dir")
    cache.writable(folder)
    tfds_builder.check_threads()

    def folder_of(fingerprint: str) -> Path:
        return folder / f"{fingerprint[:16]}-{tfds_builder.VERSION}"

    left_out = sources.left_out_of_folders(spec)
    stamp = fingerprint_cache.path(spec, folder, progress)
    fingerprint, in_archives = fingerprint_cache.read(stamp)
    content = _find(folder_of(fingerprint), progress) if fingerprint else None
    bad = unusable_files.read(stamp) if content and content[2] else []  # not content[2], which may be another source's
    if content is None or bad is None:
        in_archives = []
        with cache.full_disk(folder), tempfile.TemporaryFile(dir=folder) as copy:
            items = sources.read(spec, str(folder), progress, in_archives.extend)
            copied = [source_copy.append(item, copy) for item in items]
            copy.flush()
            fingerprint = source_copy.fingerprint(copied)
            content = _find(
                folder_of(fingerprint),
                progress,
                lambda out: prepared_files.write(out, copied, copy.fileno(), spec, progress, on_bad),
            )
        bad = prepared_files.with_current_reasons(content[2], copied)
        if stamp and not any(file.failed for file in copied) and fingerprint_cache.still(stamp, spec, folder):
            if bad:
                unusable_files.write(stamp, bad)
            fingerprint_cache.write(stamp, fingerprint, in_archives)
    named_sources.remember(spec, cache_dir)
    records, columns, _ = content
    unusable_files.check_share(spec, len(records), bad, max_bad, on_bad)
    age = np.stack([columns.pop("age_first"), columns.pop("age_last")], 1)
    name = sources.source_name(spec)
    return Prepared(
        name=name,
        fingerprint=fingerprint,
        folder=folder_of(fingerprint),
        records=records,
        age=age,
        bad=bad,
        left_out=sorted(left_out + in_archives),
        **columns,
    )


def prepared_in(cache_dir: str, fingerprint: str) -> bool:
    """Return whether a folder contains prepared data of a source, from any version of this library."""
    if not cache_dir or not re.fullmatch("[0-9a-f]{64}", fingerprint):
        return False
    return any(files.expand(cache_dir, "data.cache_dir").glob(f"{fingerprint[:16]}-*"))


def _find(folder: Path, progress: Progress | None, build: Callable[[Path], None] | None = None):
    """Return the prepared data in `folder`, built by `build` if necessary; None if missing and `build` is None."""
    with cache.locked(folder, progress) as alone:
        content = prepared_files.read_if_whole(folder, progress)
        if content is None and build:
            if alone:
                cache.remove_leftovers(folder)
            unfinished = cache.new_folder(folder)
            try:
                build(unfinished)
                cache.replace_folder(unfinished, folder)
            except BaseException:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise
            content = prepared_files.read(folder)
        return content
