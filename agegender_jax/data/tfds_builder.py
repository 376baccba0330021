"""The prepared form of a source: a TFDS data set in array_record files, with the images' original bytes."""

import functools
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader

from agegender_jax.data import cache, near_duplicates

TEXTS = ("file", "content", "sha256", "age_text", "race_text")
READER_THREADS = 64  # of array_record, once per process; it hangs if one of them cannot be started
VERSION = "2.2.0"  # of the files, their fields and the split rule
NUMBERS = ("age_years", "age_first", "age_last", "gender", "race", "group", "mirrored")


class AgeGenderFaces(tfds.core.GeneratorBasedBuilder):
    """Faces with age, gender and race; one split, "faces". Built without TensorFlow."""

    VERSION = tfds.core.Version(VERSION)

    def __init__(self, *, records: Iterable[dict] | None = None, **kwargs):
        self._records = records
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {name: tfds.features.Text() for name in TEXTS}
        features |= {name: tfds.features.Scalar(np.int32) for name in NUMBERS}
        features["image"] = tfds.features.Image(shape=(None, None, 3))
        features["dhash"] = tfds.features.Tensor(shape=(2 * near_duplicates.HALF,), dtype=np.uint8)
        features["thumbnail"] = tfds.features.Tensor(shape=(near_duplicates.SIDE**2,), dtype=np.uint8)
        info = self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))
        info.initialize_from_bucket = lambda: None  # otherwise leaves an empty folder in the system's temporary folder
        return info

    def _log_download_bytes(self) -> None:
        """Print nothing: there is no download."""

    def _log_download_done(self) -> None:
        """Print nothing."""

    def _split_generators(self, dl_manager):
        return {"faces": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict]]:
        for key, record in enumerate(self._records or ()):
            texts = {name: record[name].encode("utf-8", "surrogateescape") for name in TEXTS}
            yield key, record | texts | {"image": io.BytesIO(record["image"])}


def write(folder: Path, records: Iterable[dict]) -> None:
    """Write records under `folder`, one by one. TFDS keeps up to 1 GB of them in memory to shuffle them.

    Args:
      records: dicts of the fields of TEXTS and NUMBERS, `dhash`, `thumbnail` and the encoded `image`.

    Raises:
      OSError: the disk is full.
    """
    tfds.disable_progress_bar()
    builder = AgeGenderFaces(data_dir=str(folder), records=records)
    with cache.full_disk(folder):
        builder.download_and_prepare()


def read(folder: Path):
    """Return random access to the records in `folder`, images still encoded.

    Raises:
      ValueError: the number of records differs from that in the data set's metadata.
      ConfigError: the threads that array_record reads with cannot be started.
    """
    check_threads()
    builder = AgeGenderFaces(data_dir=str(folder))
    split = builder.info.splits["faces"]
    stored = sum(ArrayRecordReader(path).num_records() for path in map(str, split.filepaths))
    if stored != split.num_examples:
        raise ValueError(f"{stored} records where the info says {split.num_examples}")
    return builder.as_data_source("faces", decoders={"image": tfds.decode.SkipDecoding()})


@functools.cache
def check_threads() -> None:
    """Raise ConfigError unless array_record's threads can be started."""
    cache.check_threads(READER_THREADS)
