"""MIT-BIH Arrhythmia Database (Moody and Mark): heartbeats of 47 people, five AAMI classes, as real numbers 0..1.

The rows are those of :mod:`tinyfoa_np.data.heartbeats`. The first 169 of their 187 values are the inputs, an image of
13 x 13, as in the TinyFoA paper. They are float32: the converter had 11 bits and each row is scaled by its own range,
so bytes would lose precision. There are three divisions into training and test samples, each with seed 0:

mitbih
    A fifth of each class's beats is the test set, across all people, with exactly the counts of the public
    preparation (87,554 and 21,892 beats). Then both sets are balanced, to 17,510 and 4,378 beats per class: a larger
    class is subsampled, a smaller one repeated. The paper only says "balanced"; with these numbers a training epoch
    keeps its length, and the test error weights the five classes equally.
mitbih-natural
    The same without balancing: five of six test beats are of class N.
mitbih-interpatient
    Trained on the records of DS1, tested on those of DS2 (de Chazal, O'Dwyer and Reilly 2004), which are of different
    people, with one exception: 201 and 202 are of the same man. The four records with paced beats are in neither. Not
    balanced, and much harder.

For the first two names, the files of the public preparation, ``mitbih_train.csv`` and ``mitbih_test.csv``, are read if
there are no records. No digest of them is published, so this needs ``mitbih-unverified``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import warnings
import zipfile
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinyfoa_np.data import heartbeats
from tinyfoa_np.data.dataset import Dataset, Split
from tinyfoa_np.data.published import Files, Progress, Published, first_of, quiet
from tinyfoa_np.data.search_path import Place, places, user_cache
from tinyfoa_np.data.splits import balanced, shuffled, split
from tinyfoa_np.errors import BadRequest, CheckFailed
from tinyfoa_np.storage.whole_file import write_whole

IMAGE, INPUTS, CLASSES = (1, 13, 13), 169, 5
#: test beats per class in the public preparation, of 90,589, 2,779, 7,236, 803 and 8,039
TESTED = (18118, 556, 1448, 162, 1608)
#: beats per class after balancing, for training and test: a fifth of the total, rounded down
EACH = (17510, 4378)
SEED = 0
DS1 = "101 106 108 109 112 114 115 116 118 119 122 124 201 203 205 207 208 209 215 220 223 230".split()
DS2 = "100 103 105 111 113 117 121 123 200 202 210 212 213 214 219 221 222 228 231 232 233 234".split()
PACED = "102 104 107 217".split()
RECORDS = sorted([*DS1, *DS2, *PACED])
URL = "https://physionet.org/files/mitdb/1.0.0/"
MIRRORS = ("https://physionet-open.s3.amazonaws.com/mitdb/1.0.0/",)
CSV = ("mitbih_train.csv", "mitbih_test.csv")
#: increased when the same records would be converted to different rows
PREPARATION = 1


def _digests() -> dict[str, str]:
    text = resources.files(__package__).joinpath("mitdb.sha256").read_text()
    return {name: digest for digest, name in (line.split() for line in text.splitlines())}


FILES = Files(
    "MIT-BIH",
    ("mitdb", "mitbih", "."),
    _digests(),
    URL,
    1 << 24,
    algorithm="sha256",
    text=".hea",
    mirrors=MIRRORS,
    name="mitbih",
)


class Beats(NamedTuple):
    """Prepared heartbeats.

    Attributes
    ----------
    rows : ndarray (N, 169), float32
    labels : ndarray (N,), uint8
        AAMI classes N, S, V, F, Q as 0 to 4.
    records : ndarray (N,), uint16
        Record number of each beat.
    """

    rows: np.ndarray
    labels: np.ndarray
    records: np.ndarray


class MitBih(Published):
    """One of the three divisions of the beats into training and test samples."""

    def __init__(self, name: str, samples: tuple[int, int], balance: bool, patients: bool) -> None:
        super().__init__(name, [FILES], samples, CLASSES, IMAGE, "float32")
        self.balance, self.patients = balance, patients

    def find(self, data_dir: Place = None) -> str:
        """The directory of the records, or of the public preparation's two files; raises `BadRequest`."""
        try:
            return super().find(data_dir)
        except BadRequest:
            if (found := self._csv(data_dir)) is None:
                raise
            return f"{found[0].parent} (CSV, for {self.name}-unverified)"

    def load(self, data_dir: Place = None, unverified: bool = False, on_progress: Progress = quiet) -> Dataset:
        """Prepare the records, or load the cached preparation, and divide it into training and test samples.

        Raises
        ------
        BadRequest
            Files or the ``wfdb`` library are missing.
        CheckFailed
            A file is altered, or is not a valid record or table.
        """
        try:
            files, paths = first_of(self.layouts, data_dir)
        except BadRequest:
            if (tables := self._csv(data_dir)) is None:
                raise
            if not unverified:
                raise BadRequest(
                    f"no digest of {tables[0]} is published: {self.name}-unverified takes it as it is"
                ) from None
            return self._from_csv(tables)
        beats = prepared(files, paths, unverified, on_progress)
        if self.patients:
            order = shuffled(len(beats.labels), SEED)
            train, test = (order[np.isin(beats.records[order], np.array(part, int))] for part in (DS1, DS2))
        else:
            train, test = split(beats.labels, TESTED, SEED)
        parts = [Split(beats.rows[rows], beats.labels[rows]) for rows in (train, test)]
        return self._dataset(parts, paths["100.dat"].parent, unverified)

    def _csv(self, data_dir: Place) -> tuple[Path, Path] | None:
        """The public preparation's two files, if they exist and can be used."""
        for place in places(data_dir):
            for folder in (place / "mitbih", place / "heartbeat", place):
                train, test = folder / CSV[0], folder / CSV[1]
                if not self.patients and train.is_file() and test.is_file():
                    return train, test
        return None

    def _from_csv(self, tables: tuple[Path, Path]) -> Dataset:
        parts = []
        for path in tables:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")  # that the file is empty
                    table = np.loadtxt(path, np.float32, delimiter=",", ndmin=2)
            except (ValueError, OSError, UserWarning) as error:
                raise CheckFailed(f"{path} is not a table of numbers: {str(error).splitlines()[0]}") from error
            if table.shape[1:] != (heartbeats.LENGTH + 1,) or not len(table) or not np.isfinite(table).all():
                raise CheckFailed(f"{path} must have rows of {heartbeats.LENGTH} values and a class")
            labels = table[:, -1].astype(np.uint8)
            if (labels != table[:, -1]).any() or set(np.unique(labels)) != set(range(CLASSES)):
                raise CheckFailed(f"{path}: the last column must be a class, with all of 0 to {CLASSES - 1} in it")
            order = shuffled(len(labels), SEED)  # the files are sorted by class
            parts.append(Split(np.ascontiguousarray(table[order, :INPUTS]), labels[order]))
        return self._dataset(parts, tables[0].parent, unverified=True)

    def _dataset(self, parts: list[Split], where: Path, unverified: bool) -> Dataset:
        if self.balance:
            chosen = [balanced(part.labels, each, CLASSES, SEED) for part, each in zip(parts, EACH)]
            parts = [Split(part.inputs[rows], part.labels[rows]) for part, rows in zip(parts, chosen)]
        how = "records of DS1 to train on, of DS2 to test on" if self.patients else "a fifth of each class to test on"
        origin = {
            "where": str(where),
            "split": f"{how}, shuffled with seed {SEED}",
            "balance": f"{EACH[0]} and {EACH[1]} of each class" if self.balance else "none",
        }
        return self.made(parts, unverified, origin)


SETS = {
    one.name: one
    for one in (
        MitBih("mitbih", (EACH[0] * CLASSES, EACH[1] * CLASSES), balance=True, patients=False),
        MitBih("mitbih-natural", (87554, 21892), balance=False, patients=False),
        MitBih("mitbih-interpatient", (50999, 49690), balance=False, patients=True),
    )
}


def prepared(files: Files, paths: dict[str, Path], unverified: bool = False, on_progress: Progress = quiet) -> Beats:
    """Prepare the beats of all records once; later calls load them from the user's cache directory.

    Parameters
    ----------
    files : Files
        The published ones.
    paths : dict of str to Path
        Those that were found, by name.
    unverified : bool
        Accept files that are not the published ones.

    Raises
    ------
    BadRequest
        The ``wfdb`` library is not installed, and nothing is cached.
    CheckFailed
        A file is altered, or is not a valid record.
    """
    digests = "".join(files.checked(name, path, unverified)[1] for name, path in sorted(paths.items()))
    key = hashlib.sha256(f"{PREPARATION} {digests}".encode()).hexdigest()[:16]
    kept = user_cache() / "prepared" / f"mitbih-{key}.npz"
    found = _kept(kept)
    if found is not None:
        return found
    if importlib.util.find_spec("wfdb") is None:
        raise BadRequest('MIT-BIH\'s records are read by wfdb, which is not installed: pip install "tinyfoa-np[ecg]"')
    parts = []
    for done, record in enumerate(RECORDS):
        on_progress(done, len(RECORDS), "preparing heartbeats")
        path = paths[f"{record}.dat"].with_suffix("")
        try:
            rows, labels = heartbeats.beats(path)
            if not len(labels):
                raise ValueError("it has no beats")
        except Exception as error:  # damaged records can cause any error in the library
            raise CheckFailed(f"{path} cannot be read as a record ({error})") from error
        parts.append((rows[:, :INPUTS], labels, np.full(len(labels), int(record), np.uint16)))
    on_progress(len(RECORDS), len(RECORDS), "preparing heartbeats")
    beats = Beats(*(np.concatenate(arrays) for arrays in zip(*parts)))
    if missing := [name for label, name in enumerate(heartbeats.CLASSES) if not (beats.labels == label).any()]:
        raise CheckFailed(f"the records in {paths['100.dat'].parent} have no beats of class {', '.join(missing)}")
    _keep(kept, beats)
    return beats


def _kept(path: Path) -> Beats | None:
    """Load the cached preparation; None if missing or damaged (a zip file has checksums)."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            beats = Beats(*(arrays[name] for name in Beats._fields))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    samples = len(beats.labels)
    whole = [(array.dtype.name, array.shape) for array in beats] == [
        ("float32", (samples, INPUTS)),
        ("uint8", (samples,)),
        ("uint16", (samples,)),
    ]
    return beats if whole else None


def _keep(path: Path, beats: Beats) -> None:
    content = io.BytesIO()
    np.savez(content, **beats._asdict())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content.getvalue())
    except OSError as error:
        warnings.warn(
            f"the prepared heartbeats cannot be kept in {path} ({error.strerror}): next time they are prepared again",
            stacklevel=2,
        )
