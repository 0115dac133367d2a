"""Notice memory that is taken from the operating system: mappings, files to write to, processes and threads.

Such memory is in no trace of allocations. Python announces these calls to audit hooks (PEP 578). A hook stays for the
lifetime of the process, so one is added when it is first needed; it passes the calls of watched threads on. Python
announces threads from version 3.12 on, and never what a library in C takes by itself.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

_PROCESS = "a process was started"
#: events, in the words of a finding
_CALLS = {
    "_thread.start_new_thread": "a thread was started",
    "mmap.__new__": "memory was mapped",
    "open": "a file was opened for writing",
    "os.exec": _PROCESS,
    "os.fork": _PROCESS,
    "os.forkpty": _PROCESS,
    "os.posix_spawn": _PROCESS,
    "os.spawn": _PROCESS,
    "os.system": _PROCESS,
    "subprocess.Popen": _PROCESS,
}
_watched: dict[int, Callable[[str, str], None]] = {}
_added: list[bool] = []


def watch(tell: Callable[[str, str], None]) -> None:
    """Call ``tell(what, path)`` for each such call of this thread, until :func:`rest`; only a file has a path."""
    if not _added:
        sys.addaudithook(_hook)
        _added.append(True)
    _watched[threading.get_ident()] = tell


def rest() -> None:
    """Stop watching this thread."""
    _watched.pop(threading.get_ident(), None)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched and event in _CALLS and (tell := _watched.get(threading.get_ident())):
        path = ""
        if event == "open":
            opened, _, flags = arguments
            # a number is a file that is open already; an import writes the compiled module
            if isinstance(opened, int) or not flags & (os.O_WRONLY | os.O_RDWR) or "__pycache__" in os.fsdecode(opened):
                return
            path = os.fsdecode(opened)
        tell(_CALLS[event], path)
