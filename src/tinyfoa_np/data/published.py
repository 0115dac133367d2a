"""A published data set, and its files: where to find them, how to read them, and how to verify them."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from tinyfoa_np.data.dataset import Dataset, Split, fingerprint, shaped
from tinyfoa_np.data.search_path import Place, places
from tinyfoa_np.errors import BadRequest, CheckFailed

Progress = Callable[[int, int, str], None]


def quiet(done: int, total: int, what: str) -> None:
    """Ignore progress."""


@dataclass(frozen=True)
class Files:
    """A group of files.

    Attributes
    ----------
    title : str
        Name of the data set in messages.
    folders : sequence of str
        Possible folders below a searched directory, ``"."`` for the directory itself; the first is recommended.
    digests : mapping of str to str
        Published digest of each file by name; of the decompressed content if ``NAME.gz`` is accepted for it.
    url : str
        Where to get the files.
    largest : int
        Maximum number of bytes to read from a file.
    compressed : bool
        Whether ``NAME.gz`` is accepted for ``NAME``, and is what is published.
    algorithm : str
        Hash algorithm of the digests.
    text : str
        Suffix of text files, whose digest is taken with CR LF line ends, whatever a copy has.
    mirrors : sequence of str
        Further addresses of the same files.
    name : str
        Name under which ``tinyfoa data fetch`` downloads them.
    """

    title: str
    folders: Sequence[str]
    digests: Mapping[str, str]
    url: str
    largest: int
    compressed: bool = False
    algorithm: str = "md5"
    text: str | None = None
    mirrors: Sequence[str] = ()
    name: str = ""

    def paths(self, data_dir: Place) -> dict[str, Path]:
        """The files by name, all from the first directory that has all of them.

        Raises
        ------
        BadRequest
            No directory has all of them; the message says what to put where.
        """
        return first_of([self], data_dir)[1]

    def within(self, place: Path) -> dict[str, Path]:
        """The files by name from the folder below a directory that has most of them; the first one on a tie."""
        most: dict[str, Path] = {}
        for folder in (place / name for name in self.folders):
            found = {}
            for name in self.digests:
                both = (folder / f"{name}.gz", folder / name) if self.compressed else (folder / name,)
                path = next((p for p in both if p.is_file()), None)
                if path is not None:
                    found[name] = path
            if len(found) > len(most):
                most = found
        return most

    def read(self, name: str, path: Path) -> tuple[bytes, str]:
        """A file's content, decompressed if its path ends in .gz, and the digest to compare with the published one.

        Raises
        ------
        CheckFailed
            The file is truncated or damaged.
        """
        with path.open("rb") as file:
            return self._known(name, path, file.read(self.largest + 1))

    def _known(self, name: str, path: Path, stored: bytes) -> tuple[bytes, str]:
        content = stored
        if path.suffix == ".gz":
            try:
                with gzip.open(io.BytesIO(stored)) as unpacked:
                    content = unpacked.read(self.largest + 1)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise CheckFailed(
                    f"{path} is truncated or damaged ({error}); fetch it again from {self.url}"
                ) from error
        published = stored if path.name == name else content
        if self.text and name.endswith(self.text):
            published = b"\r\n".join(published.splitlines() + [b""])
        return content, hashlib.new(self.algorithm, published, usedforsecurity=False).hexdigest()

    def published(self, path: Path, stored: bytes) -> bool:
        """Whether ``stored`` is the published content of the file at ``path``."""
        name = path.name.removesuffix(".gz") if self.compressed else path.name
        try:
            return self._known(name, path, stored)[1] == self.digests[name]
        except CheckFailed:
            return False

    def checked(self, name: str, path: Path, unverified: bool) -> tuple[bytes, str]:
        """A file's content and digest, which must be the published one unless `unverified`.

        Raises
        ------
        CheckFailed
            The file is truncated or damaged, or is not the published one.
        """
        content, digest = self.read(name, path)
        if not unverified and digest != self.digests[name]:
            raise CheckFailed(
                f"{path} is not the published file (its {self.algorithm.upper()} differs); fetch it again from "
                f"{self.url}, or use it as it is: NAME-unverified in place of the data set's NAME"
            )
        return content, digest

    def verify(self, data_dir: Place) -> list[tuple[str, bool, str]]:
        """One row per file: its path, whether its content is the published one, and a description."""
        rows = []
        for name, path in self.paths(data_dir).items():
            try:
                _, digest = self.read(name, path)
            except CheckFailed as error:
                rows.append((str(path), False, str(error).removeprefix(f"{path} ")))
                continue
            ok = digest == self.digests[name]
            found = f"{self.algorithm} {digest}"
            rows.append((str(path), ok, found + ("" if ok else f", published {self.digests[name]}")))
        return rows


def first_of(layouts: Sequence[Files], data_dir: Place) -> tuple[Files, dict[str, Path]]:
    """The first layout that is complete in the first possible directory, and its files by name.

    Raises
    ------
    BadRequest
        No directory has one; the message says what to put where, for the most complete layout, or else the first.
    """
    looked_into = places(data_dir)
    best = layouts[0]
    nearest: dict[str, Path] = {}
    for place in looked_into:
        for layout in layouts:
            found = layout.within(place)
            if len(found) == len(layout.digests):
                return layout, found
            if len(found) > len(nearest):
                best, nearest = layout, found
    missing = [f"{name}.gz" if best.compressed else name for name in best.digests if name not in nearest]
    shown = ", ".join(missing) if len(missing) < 9 else f"{', '.join(missing[:4])} and {len(missing) - 4} more"
    folder = next(iter(nearest.values())).parent if nearest else looked_into[0] / best.folders[0]
    fetch = f"tinyfoa data fetch {best.name} downloads it; or " if best.name else ""
    looked = ", ".join(map(str, looked_into))
    raise BadRequest(f"{best.title} not found in {looked}: {fetch}put {shown} from {best.url} into {folder}")


class Published(ABC):
    """A published data set.

    Parameters
    ----------
    name : str
    layouts : sequence of Files
        Possible layouts of its files; messages recommend the first one, and downloads use it.
    samples : (int, int)
        Numbers of training and test samples.
    classes : int
    image : (channels, rows, columns)
        Shape of the inputs.
    dtype : {"uint8", "float32"}
        Type of the inputs.
    scale, offset, unit : float
        As for :class:`.dataset.Dataset`.
    """

    def __init__(
        self,
        name: str,
        layouts: Sequence[Files],
        samples: tuple[int, int],
        classes: int,
        image: tuple[int, int, int],
        dtype: str = "uint8",
        *,
        scale: float = 1.0,
        offset: float = 0.0,
        unit: float = 1 / 255,
    ) -> None:
        self.name, self.layouts, self.samples, self.classes = name, layouts, samples, classes
        self.image, self.dtype, self.scale, self.offset, self.unit = image, dtype, scale, offset, unit

    @property
    def fetched(self) -> Files | None:
        """Files to download; None if there is no download."""
        return self.layouts[0] if self.layouts else None

    def find(self, data_dir: Place = None) -> str:
        """Path of the single file, or of the directory of all files; raises `BadRequest` if there is none."""
        _, paths = first_of(self.layouts, data_dir)
        path = next(iter(paths.values()))
        return str(path if len(paths) == 1 else path.parent)

    def verify(self, data_dir: Place = None) -> list[tuple[str, bool, str]]:
        """One row per file: its path, whether it has the published digest, and a description."""
        return first_of(self.layouts, data_dir)[0].verify(data_dir)

    def shape(self) -> Dataset:
        """The data set without its samples."""
        numbers = self.scale, self.offset, self.unit
        return shaped(self.name, *self.samples, prod(self.image), self.dtype, self.classes, *numbers, image=self.image)

    @abstractmethod
    def load(self, data_dir: Place = None, unverified: bool = False, on_progress: Progress = quiet) -> Dataset:
        """Load inputs (N, I) and labels (N,) uint8; with ``unverified``, files need not be the published ones.

        Raises
        ------
        BadRequest
            Files are missing.
        CheckFailed
            A file is truncated or altered, or is not in its layout.
        """

    def made(self, splits: Sequence[Split], unverified: bool, origin: dict[str, Any] | None = None) -> Dataset:
        """Make the data set from these samples; unverified samples are identified by their digest."""
        train, test = splits
        digest = fingerprint(train, test) if unverified else None
        numbers = self.scale, self.offset, self.unit
        return Dataset(self.name, train, test, self.classes, *numbers, image=self.image, digest=digest, origin=origin)
