"""Read arrays from untrusted .npy and .npz files.

NumPy's own readers allocate the memory that a header asks for. Here shape and dtype are compared with the limit and
with the available bytes, and the members of an archive are counted while they are decompressed.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tinyfoa_np.data.limits import HEADER, LIMIT, opened, too_large
from tinyfoa_np.errors import BadRequest

_CHUNK = 1 << 20
#: maximum size of an archive's directory: about 10,000 members
_DIRECTORY = 1 << 20
_END, _END64 = b"PK\x05\x06", b"PK\x06\x07"


def from_npy(path: Path, limit: int = LIMIT) -> np.ndarray:
    """Read the array in an .npy file.

    Raises
    ------
    BadRequest
        If it does not contain numbers or text, or takes more than ``limit`` bytes.
    """
    with opened(path, limit + HEADER) as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                return _array(file, str(path), limit)
        except BadRequest:
            raise
        except Exception as error:  # a damaged header can cause any error in NumPy's parser
            raise BadRequest(f"{path} is not an .npy file of numbers: {first_line(error)}") from error


def from_archive(path: Path, wanted: Sequence[str] = (), limit: int = LIMIT) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file, by lower-case name; if ``wanted`` is given, other arrays are returned empty.

    Raises
    ------
    BadRequest
        If it is not such an archive, or the arrays read take more than ``limit`` bytes.
    """
    arrays: dict[str, np.ndarray] = {}
    with opened(path, limit) as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                _check_directory(file)
                with zipfile.ZipFile(file) as archive:
                    for member in archive.infolist():
                        name = member.filename.removesuffix(".npy").lower()
                        if name in arrays:
                            raise BadRequest(f"{path} holds two arrays called {shown(name)}, perhaps in capitals")
                        arrays[name] = np.zeros(0)
                        if not wanted or name in wanted:
                            arrays[name] = _member(archive, member, f"{path}, {shown(name)}", limit)
                            limit -= arrays[name].nbytes
        except BadRequest:
            raise
        except Exception as error:  # a damaged archive can cause any error in NumPy's and Python's parsers
            raise BadRequest(f"{path} is not an .npz file of numbers: {first_line(error)}") from error
    return arrays


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, limit: int) -> np.ndarray:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("a member is compressed in a way that NumPy does not write")
    with archive.open(member) as file:
        return _array(file, name, limit)  # type: ignore[arg-type]


def _check_directory(file: BinaryIO) -> None:
    """Refuse an archive whose directory alone would take much memory, as `zipfile` reads all of it."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 22 - 65535 - 20))
    tail = file.read()
    at = tail.rfind(_END)
    if at >= 0 and len(tail) - at >= 22:
        (directory,) = struct.unpack_from("<I", tail, at + 12)
        if tail[max(0, at - 20) : at].startswith(_END64):
            (start,) = struct.unpack_from("<Q", tail, at - 12)
            file.seek(min(start, size))
            record = file.read(56)
            directory = max(directory, struct.unpack_from("<Q", record, 40)[0]) if len(record) == 56 else size
        if directory > _DIRECTORY:
            raise ValueError("it has too many members")
    file.seek(0)


def _array(file: BinaryIO, name: str, limit: int) -> np.ndarray:
    """Read the array that begins here; it must extend to the end of the file.

    Raises
    ------
    ValueError
        If the header is damaged, or does not match the number of bytes.
    BadRequest
        If it takes more than ``limit`` bytes.
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"its version is {version}")
    length = file.read(2 if version == (1, 0) else 4)
    size = int.from_bytes(length, "little")
    if size > HEADER:
        raise ValueError(f"its header has {size:,} bytes")
    header = io.BytesIO(length + file.read(size))
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(header)
    if dtype.kind not in "biufcUSMm" or not dtype.itemsize or min(shape, default=1) < 0:
        raise ValueError(f"it holds {dtype} of shape {shape}"[:100])
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes > limit:
        raise too_large(name, nbytes, limit)
    content = bytearray()
    while len(content) <= nbytes and (chunk := file.read(min(_CHUNK, nbytes + 1 - len(content)))):
        content += chunk
    if len(content) != nbytes:
        raise ValueError(f"its header promises {nbytes:,} bytes, {'more' if len(content) > nbytes else 'fewer'} follow")
    array = np.frombuffer(content, dtype) if nbytes else np.zeros(0, dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def shown(value: object) -> str:
    """A label or a name for a message; text with unprintable characters is shown as a Python literal."""
    text = str(value)[:40]
    return text if text.isprintable() and text.strip() else repr(text)


def first_line(error: Exception) -> str:
    """The first line of an exception's message, at most 120 characters."""
    return ((str(error) or type(error).__name__).splitlines() or [""])[0][:120]
