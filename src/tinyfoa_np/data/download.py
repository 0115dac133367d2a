"""Downloads of published data sets, from the publishers or a mirror: each file is there verified, or not at all.

A download that breaks off leaves a ``.part`` behind, and the next one goes on from there. Files are written by pooch.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tinyfoa_np.data.published import Files, Progress, quiet
from tinyfoa_np.data.search_path import places
from tinyfoa_np.errors import BadRequest, CheckFailed

CHUNK = 1 << 18
#: seconds to wait for a connection, and for the next bytes
PATIENCE = 10, 30


class _Download:
    """One file from one address, for pooch: into a ``.part`` that outlives a broken connection, then into its file."""

    def __init__(self, files: Files, path: Path, on_progress: Progress) -> None:
        self.files, self.path, self.on_progress = files, path, on_progress
        self.part = path.with_name(path.name + ".part")

    def __call__(self, url: str, output: str, pooch: Any) -> None:
        import requests

        there = self.part.stat().st_size if self.part.is_file() else 0
        if there > self.files.largest:  # of something else
            self.part.unlink()
            there = 0
        asked = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={there}-"} if there else {})
        with requests.get(url, headers=asked, stream=True, timeout=PATIENCE) as answer:
            if there and answer.status_code == 416:  # what is there is all there is, or too much
                if not self._whole():
                    self.part.unlink()
                    return self(url, output, pooch)
            else:
                answer.raise_for_status()
                there = there if answer.status_code == 206 else 0
                try:
                    self._append(answer, there)
                except CheckFailed:
                    if not there:
                        raise
                    self.part.unlink(missing_ok=True)
                    return self(url, output, pooch)
        if not self._whole():
            self.part.unlink()
            if there:  # its beginning was of something else, or of another server's file
                return self(url, output, pooch)
            raise CheckFailed(f"what {url} sends is not the published file")
        os.replace(self.part, output)

    def _append(self, answer: Any, there: int) -> None:
        length = answer.headers.get("Content-Length", "")
        total = there + int(length) if length.isdigit() else 0
        if total > self.files.largest:
            raise CheckFailed(f"{answer.url} sends {total:,} bytes: more than the published file can have")
        with open(self.part, "ab" if there else "wb") as file:
            for chunk in _received(answer):
                file.write(chunk)
                there += len(chunk)
                if there > self.files.largest:
                    self.part.unlink()
                    raise CheckFailed(f"{answer.url} sends more than the published file can have")
                self.on_progress(there, max(total, there), f"fetching {self.path.name}")
        if there < total:
            raise ConnectionError(f"the connection ended after {there:,} of {total:,} bytes")

    def _whole(self) -> bool:
        return self.files.published(self.path, self.part.read_bytes())


def _received(answer: Any) -> Iterator[bytes]:
    """What comes, as it comes: where a connection breaks off, no byte before that is lost."""
    raw = answer.raw
    raw.enforce_content_length = False  # a short file is told of by its length; urllib3 would drop the last piece
    if not hasattr(raw, "read1"):
        yield from answer.iter_content(1 << 12)
        return
    while chunk := raw.read1(CHUNK, decode_content=True):
        yield chunk


def fetch(
    files: Files,
    data_dir: str | os.PathLike[str] | None = None,
    on_progress: Progress = quiet,
    mirrors: Sequence[str] | None = None,
) -> Path:
    """Downloads what is not there yet, verified, and says where it is.

    Parameters
    ----------
    files : Files
    data_dir : path, optional
        Where to; without it ``$TINYFOA_DATA``, or else the user's cache directory.
    on_progress : callable
        Called with the bytes of a file that are there, of how many, and which it is.
    mirrors : sequence of str, optional
        Addresses to try, one after another, in place of the known ones.

    Raises
    ------
    BadRequest
        pooch is not installed, no address answers, or the directory cannot be written.
    CheckFailed
        The addresses that answer send other files than the published ones.
    """
    if importlib.util.find_spec("pooch") is None:
        raise BadRequest('data are fetched with pooch, which is not installed: pip install "tinyfoa-np[fetch]"')
    folder = places(data_dir)[0] / files.folders[0]
    addresses = tuple(mirrors or (files.url, *files.mirrors))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in files.digests:
            path = folder / (f"{name}.gz" if files.compressed else name)
            if not (path.is_file() and files.published(path, path.read_bytes())):
                _one(files, path, addresses, on_progress)
    except OSError as error:
        raise BadRequest(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder


def _one(files: Files, path: Path, addresses: Sequence[str], on_progress: Progress) -> None:
    """One file, from the first address that has it."""
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")  # it would say what our messages and bars do
    refused: CheckFailed | None = None
    said = ""
    for address in addresses:
        try:
            download = _Download(files, path, on_progress)
            # pooch keeps a file that is there: one that is altered gives way only now
            whole = path.name + ".whole"
            pooch.retrieve(address + path.name, None, fname=whole, path=path.parent, downloader=download)
            os.replace(path.with_name(whole), path)
            return
        except CheckFailed as error:
            refused = error
        except (requests.exceptions.RequestException, ConnectionError) as error:
            said = f"{address}: {_reason(error)}"
    if refused:
        raise refused
    raise BadRequest(
        f"{files.title} cannot be fetched: no address answers for {path.name} ({said}); with no network here, "
        f"fetch it elsewhere from {files.url} and put it into {path.parent}"
    )


def _reason(error: Exception) -> str:
    """Why a request failed, in a few words: requests wraps a chain of exceptions into one long line."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"{response.status_code} {response.reason}"
    known = {"ConnectTimeout": "it does not answer", "ReadTimeout": "it fell silent"}
    known |= {"ConnectionError": "no connection", "ChunkedEncodingError": "the connection broke off"}
    name = type(error).__module__.startswith("requests") and type(error).__name__
    return known.get(str(name), str(error).splitlines()[0][:80] if str(error) else type(error).__name__)
