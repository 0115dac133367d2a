"""Run by hand: damages genuine files at random for a while, and reads them; what is not refused in a line is a find.

    python tests/fuzz.py [SECONDS]      for each kind of file; 60 without it

A file is read, or refused as BadRequest or CheckFailed with one line: anything else is printed, with the file kept in
the current directory, and the exit code is 1. The tests have the same in small.
"""

import hashlib
import io
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "tools"))

from pickle_tools import GENUINE

from tinyfoa_np import data
from tinyfoa_np.data import cifar, idx, pickles
from tinyfoa_np.data.dataset import Dataset, Split
from tinyfoa_np.errors import TinyFoAError
from tinyfoa_np.model import model
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.run import train
from tinyfoa_np.storage.flash import Flash

#: what is put in: separators, brackets, large and negative numbers
TOKENS = (
    b",", b"\n", b'"', b"'", b":", b"{", b"}", b"[", b"]", b"-1", b"0", b"1e999", b"null", b"NaN", b"\x00", b"\xff" * 4,
    b"99999999999999999999", b"\xef\xbb\xbf", b"true", b"\\u0000", b"..", b"/",
)  # fmt: skip
Reader = Callable[[bytes], object]


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A few changes: bits flipped, pieces cut out, repeated, exchanged, put in."""
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at, length = rng.randrange(len(out) + 1), min(rng.choice((1, 2, 4, 8, 64)), len(out))
        kind = rng.randrange(6)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[at : at + length]
        elif kind == 2:
            out[at:at] = rng.choice(TOKENS)
        elif kind == 3:
            out[at : at + length] = rng.randbytes(length)
        elif kind == 4:
            start = rng.randrange(len(out) + 1)
            out[at:at] = out[start : start + length]
        elif rng.random() < 0.2:
            del out[at:]
    return bytes(out)


def trained(folder: Path) -> Path:
    """A finished run of the smallest kind."""
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (20, 9), np.uint8), np.arange(20, dtype=np.uint16) % 3)
    which = Recipe("fuzz", "fc:5,4", slices=1, epochs=1, batch=10)
    run = folder / "run"
    train.train(which, Dataset("fuzz", split, split, 3, 0.01, 0.0), run, threads=1)
    return run


def kinds(folder: Path) -> dict[str, tuple[bytes, Reader]]:
    """Genuine content of each kind of file, and what reads it."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 3)), np.arange(12) % 3
    saved: dict[str, io.BytesIO] = {name: io.BytesIO() for name in ("npz", "npy")}
    np.savez(saved["npz"], x=x, y=y)
    np.save(saved["npy"], x)
    np.save(folder / "labels.npy", y)
    table = "a,label,b\n" + "".join(f"{p:.3f},{'one two three'.split()[k]},{q:.3f}\n" for (p, q, _), k in zip(x, y))
    run, store = trained(folder), folder / "store"
    recipe = (run / "recipe.json").read_text()
    identity = hashlib.sha256(Recipe.from_json(recipe).to_json().encode()).hexdigest()

    def written(suffix: str, reads: Callable[[Path], object]) -> Reader:
        path = folder / f"fuzzed{suffix}"

        def read(content: bytes) -> None:
            path.write_bytes(content)
            reads(path)

        return read

    def opened(name: str) -> Reader:
        def read(content: bytes) -> None:
            shutil.rmtree(store, ignore_errors=True)
            shutil.copytree(run / "flash", store)
            (store / name).write_bytes(content)
            Flash.open(store, identity, memoryview(bytearray(4096))).close()

        return read

    flash = {f"flash {p.name}": (p.read_bytes(), opened(p.name)) for p in (run / "flash").iterdir() if p.stat().st_size}
    return {
        "idx": (b"\0\0\x08\x02" + bytes([0, 0, 0, 4, 0, 0, 0, 3]) + bytes(range(12)), lambda c: idx.parse(c, "file")),
        "cifar": (bytes([3]) + bytes(3072), lambda c: cifar.SETS["cifar10"].parse(c, "file.bin")),
        "pickle": (GENUINE, lambda c: pickles.load(c, "file")),
        "csv": (table.encode(), written(".csv", lambda path: data.load(str(path)))),
        "npz": (saved["npz"].getvalue(), written(".npz", lambda path: data.load(str(path)))),
        "npy": (saved["npy"].getvalue(), written(".npy", lambda path: data.load(f"{path},{folder}/labels.npy"))),
        "recipe": (recipe.encode(), lambda c: Recipe.from_json(c.decode(errors="replace")).validated()),
        "model": ((run / "model.safetensors").read_bytes(), written(".safetensors", model.load)),
        **flash,
    }


def main() -> int:
    seconds, finds, seed = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0, 0, int(time.time())
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        for name, (genuine, read) in kinds(Path(folder)).items():
            read(genuine)
            rng, end = random.Random(f"{name} {seed}"), time.monotonic() + seconds
            tried = refused = 0
            while time.monotonic() < end:
                content, tried = damaged(genuine, rng), tried + 1
                try:
                    read(content)
                    continue
                except TinyFoAError as error:
                    refused += 1
                    if "\n" not in str(error) and str(error):
                        continue
                    problem = f"says {str(error)!r}"
                except Exception:
                    problem = traceback.format_exc()
                finds += 1
                kept = Path(f"find-{finds}-{name.replace(' ', '-')}")
                kept.write_bytes(content)
                print(f"{kept}: {problem}")
            print(f"{name}: {tried:,} files, {refused:,} refused", flush=True)
    print(f"{finds} finds (seed {seed})")
    return int(finds > 0)


if __name__ == "__main__":
    sys.exit(main())
