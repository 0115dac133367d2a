"""What a power cut can leave of a directory: the system calls of a process are recorded, and replayed in part.

A file system promises of a file what was synced, and of a name what was synced with its directory; of all else any part
may be lost. Two promises are played. ``posix``: of writes after a file's last sync, each sector of 512 bytes is there
or is not; of changes to a directory after its last sync, each is there or is not. ``ordered``: changes to directories
are in a journal, and are there up to some moment after the last sync: a sync of any file keeps all names.
"""

import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

SECTOR = 512
CALLS = (
    "openat,write,pwrite64,pwritev,pwritev2,fsync,fdatasync,ftruncate,rename,renameat,renameat2,unlink,unlinkat,mkdir,"
    "mkdirat,rmdir"
)
_LINE = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_OPEN = re.compile(r"^(\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>")


def why_not() -> str:
    """Why no system call can be recorded here; empty where they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-o", "/dev/null", "-y", "-xx", "true"], capture_output=True, text=True)
    return "" if done.returncode == 0 else f"strace does not work here: {done.stderr.strip()[:100]}"


def recorded(code: str, directory: Path, *arguments: str, **options) -> list[tuple]:
    """The changes that a Python program makes to a directory, in order: (what, ..) with paths relative to it."""
    log = directory.with_name("strace.txt")
    command = ["strace", "-f", "-y", "-xx", "-s", "100000000", "-e", f"trace={CALLS}", "-o", str(log)]
    subprocess.run([*command, sys.executable, "-c", code, str(directory), *arguments], check=True, **options)
    return list(_changes(log.read_text(), directory))


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _changes(log: str, directory: Path):
    root, begun = str(directory), {}
    for line in log.splitlines():
        number = line.split(" ", 1)[0]
        if line.endswith("<unfinished ...>"):
            begun[number] = line.removesuffix("<unfinished ...>").rstrip()
            continue
        if " resumed>" in line and number in begun:
            line = begun.pop(number) + line.split(" resumed>", 1)[1]
        match = _LINE.match(line)
        if not match or int(match[3]) < 0:
            continue
        call, told, result = match[1], match[2], int(match[3])
        texts = [_bytes(text) for text in _TEXT.findall(told)]
        opened = _OPEN.match(told)
        path = _bytes(opened[2]).decode() if opened else ""
        if call in ("openat", "unlinkat", "mkdirat", "renameat", "renameat2"):
            paths = [text.decode() if text.startswith(b"/") else f"{path}/{text.decode()}" for text in texts]
        else:
            paths = [text.decode() for text in texts] if call in ("rename", "unlink", "mkdir", "rmdir") else [path]
        if not paths or not all(one == root or one.startswith(root + "/") for one in paths):
            continue
        names = [one[len(root) + 1 :] for one in paths]
        if call == "openat":
            if "O_CREAT" in told:
                yield ("create", names[0])
            if "O_TRUNC" in told:
                yield ("truncate", names[0], 0)
        elif call in ("write", "pwrite64", "pwritev", "pwritev2"):
            rest = told.rsplit("]" if "iov" in told else '"', 1)[1].split(",")
            position = None if call == "write" else int(rest[2])
            yield ("write", names[0], position, b"".join(texts)[:result])
        elif call == "ftruncate":
            yield ("truncate", names[0], int(told.rsplit(",", 1)[1]))
        elif call in ("fsync", "fdatasync"):
            yield ("sync", names[0])
        else:
            yield (call.removesuffix("at2").removesuffix("at"), *names)


class Disk:
    """The changes, as files (which keep their content under other names) and directories (which hold names)."""

    def __init__(self, changes: list[tuple]) -> None:
        self.names: dict[str, int] = {}  # what each path is now: a file's number, or -1 for a directory
        self.ops: list[tuple] = []  # (moment, 'name', directory, [(path, file or None)]) or ('data', file, ..) or syncs
        self.sizes: list[int] = []
        self.moments = len(changes)
        for moment, (what, path, *rest) in enumerate(changes):
            self._add(moment, what, path, rest)

    def _add(self, moment, what, path, rest):
        if what == "create" and path not in self.names:
            self.names[path] = len(self.sizes)
            self.sizes.append(0)
            self._entries(moment, [(path, self.names[path])])
        elif what == "mkdir":
            self.names[path] = -1
            self._entries(moment, [(path, -1)])
        elif what in ("unlink", "rmdir"):
            self.names.pop(path, None)
            self._entries(moment, [(path, None)])
        elif what == "rename":
            self.names[rest[0]] = self.names.pop(path)
            self._entries(moment, [(path, None), (rest[0], self.names[rest[0]])])
        elif what == "write":
            file = self.names[path]
            position = self.sizes[file] if rest[0] is None else rest[0]
            self.sizes[file] = max(self.sizes[file], position + len(rest[1]))
            self.ops.append((moment, "write", file, position, rest[1]))
        elif what == "truncate":
            self.sizes[self.names[path]] = rest[0]
            self.ops.append((moment, "truncate", self.names[path], rest[0]))
        elif what == "sync":
            file = self.names.get(path, -1) if path else -1
            self.ops.append((moment, "sync", path) if file == -1 else (moment, "synced", file))

    def _entries(self, moment, entries):
        parent = entries[0][0].rpartition("/")[0]
        self.ops.append((moment, "name", parent, entries))

    def cut(self, moment: int, kind: str, rng: random.Random, share: float) -> tuple[dict, dict]:
        """What is there after a power cut at a moment, each thing that was not synced with probability ``share``.

        Returns
        -------
        names, contents
            Of each path the file's number, -1 for a directory; of each file its bytes.
        """
        done = [op for op in self.ops if op[0] < moment]
        synced = {op[2]: op[0] for op in done if op[1] == "sync"}  # directory to its last sync
        kept = {op[2]: op[0] for op in done if op[1] == "synced"}
        journal = max([*synced.values(), *kept.values(), -1])
        late = [op[0] for op in done if op[1] == "name" and op[0] > journal]
        until = rng.choice([*late, moment]) if rng.random() < share else journal
        names, contents = {"": -1}, {}
        for op in done:
            if op[1] == "name":
                certain = op[0] < synced.get(op[2], -1)
                there = op[0] <= until if kind == "ordered" else certain or rng.random() < share
                for path, file in op[3] if there or certain else ():
                    if file is None:
                        names.pop(path, None)
                    else:
                        names[path] = file
            elif op[1] in ("write", "truncate"):
                content = contents.setdefault(op[2], bytearray())
                _change(content, op, op[0] < kept.get(op[2], -1), rng, share)
        return names, contents

    def lay(self, where: Path, names: dict, contents: dict) -> None:
        """Makes such a directory."""
        if names.get("", -1) == -1:
            where.mkdir(parents=True)
        for path in sorted(names, key=lambda path: path.count("/")):
            target = where / path
            if not target.parent.is_dir() or not path:
                continue  # its directory was lost
            if names[path] == -1:
                target.mkdir()
            else:
                target.write_bytes(contents.get(names[path], b""))


def _change(content: bytearray, op: tuple, certain: bool, rng: random.Random, share: float) -> None:
    """A write or truncation, all of it or some of its sectors."""
    if op[1] == "truncate":
        if certain or rng.random() < share:
            size = op[3]
            content[size:] = b""
            content.extend(bytes(size - len(content)))
        return
    position, data = op[3], op[4]
    first = position // SECTOR * SECTOR
    for start in range(first, position + len(data), SECTOR):
        low, high = max(start, position), min(start + SECTOR, position + len(data))
        if certain or rng.random() < share:
            content.extend(bytes(max(0, high - len(content))))
            content[low:high] = data[low - position : high - position]
