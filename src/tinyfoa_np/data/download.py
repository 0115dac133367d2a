"""Download published data sets from the publishers or a mirror; only verified files are stored.

An interrupted download leaves a ``.part`` file, from which the next download continues. Files are written by pooch.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tinyfoa_np.data.published import Files, Progress, quiet
from tinyfoa_np.data.search_path import Place, places
from tinyfoa_np.errors import BadRequest, CheckFailed

CHUNK = 1 << 18
#: timeouts in seconds for a connection, and for the next bytes
PATIENCE = 10, 30


class _Download:
    """Downloader of one address for pooch: writes a ``.part`` that survives an interruption, then the file."""

    def __init__(self, files: Files, path: Path, on_progress: Progress) -> None:
        self.files, self.path, self.on_progress = files, path, on_progress
        self.part = path.with_name(path.name + ".part")

    def __call__(self, url: str, output: str, pooch: Any) -> None:
        import requests

        there = self.part.stat().st_size if self.part.is_file() else 0
        if there > self.files.largest:  # it belongs to another file
            self.part.unlink()
            there = 0
        asked = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={there}-"} if there else {})
        with requests.get(url, headers=asked, stream=True, timeout=PATIENCE) as answer:
            if there and answer.status_code == 416:  # the part is complete or too large
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
            if there:  # it began with another file, or another server's
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
    """Received chunks as they arrive; if the connection is interrupted, all bytes received so far are kept."""
    raw = answer.raw
    raw.enforce_content_length = False  # the length is checked later; urllib3 would drop the last piece of a short file
    if not hasattr(raw, "read1"):
        yield from answer.iter_content(1 << 12)
        return
    while chunk := raw.read1(CHUNK, decode_content=True):
        yield chunk


def fetch(
    files: Files,
    data_dir: Place = None,
    on_progress: Progress = quiet,
    mirrors: Sequence[str] | None = None,
) -> Path:
    """Download missing files, verify them, and return their directory.

    Parameters
    ----------
    files : Files
    data_dir : path, optional
        Target directory; by default ``$TINYFOA_DATA``, else the user's cache directory.
    on_progress : callable
        Called with the bytes of a file received, the total, and the file's name.
    mirrors : sequence of str, optional
        Addresses to try one after another, instead of the known ones.

    Raises
    ------
    BadRequest
        pooch is not installed, no address responds, or the directory cannot be written.
    CheckFailed
        The files received differ from the published ones.
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
    """Download one file from the first address that has it."""
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")  # it would repeat our own messages
    refused: CheckFailed | None = None
    said = ""
    for address in addresses:
        try:
            download = _Download(files, path, on_progress)
            # pooch keeps an existing file; an altered one is replaced only now
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
    """A short reason why a request failed; requests wraps a chain of exceptions into one long line."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"{response.status_code} {response.reason}"
    known = {"ConnectTimeout": "it does not answer", "ReadTimeout": "it fell silent"}
    known |= {"ConnectionError": "no connection", "ChunkedEncodingError": "the connection broke off"}
    name = type(error).__module__.startswith("requests") and type(error).__name__
    return known.get(str(name), str(error).splitlines()[0][:80] if str(error) else type(error).__name__)
