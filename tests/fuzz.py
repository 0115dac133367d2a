"""Run by hand: damages genuine files at random for a while, and reads them; what is not refused in a line is a find.

    python tests/fuzz.py [SECONDS [KIND ...]]      for each kind of file; 60 without it

Two ways of damage: bytes of a file changed anywhere, and one thing in a file changed on purpose (a number, a name, a
length, a tensor) with all digests and checksums made to hold. Models answer, runs are resumed and shown. A file is
read, or refused as BadRequest or CheckFailed with one line; nothing ends the process, takes 20 seconds of CPU, or 64 MB
of RAM beyond what the genuine file takes. Anything else is printed, with the file or directory kept in the current
directory, and the exit code is 1. Each kind is read in a process of its own, which is begun again where it ends.
"""

import contextlib
import faulthandler
import io
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from safetensors.numpy import save as to_bytes

sys.path.insert(0, str(Path(__file__).parent / "tools"))

from hostile_tools import changed, changed_model, changed_run, opened_model
from pickle_tools import GENUINE

from tinyfoa_np import data, page
from tinyfoa_np.data import cifar, csv_table, idx, pickles
from tinyfoa_np.data.dataset import Dataset, Split
from tinyfoa_np.data.reading import MISSING, Reading
from tinyfoa_np.data.roles import Known
from tinyfoa_np.errors import BadRequest, TinyFoAError
from tinyfoa_np.model import c_layout, c_trainer, exits, export, model
from tinyfoa_np.model.model import Model
from tinyfoa_np.model.weights import load_weights
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reports import audit
from tinyfoa_np.run import device, results
from tinyfoa_np.run.directory import read_recipe, startable
from tinyfoa_np.run.start import Start
from tinyfoa_np.run.start import further as following
from tinyfoa_np.run.train import train
from tinyfoa_np.storage.flash import Flash

MOST_CPU, MOST_RAM = 20, 64 << 20
IMAGE = (1, 8, 8)
#: tensors of another program's file: module, part and shape
WEIGHTS = ((0, "weight", (4, 64)), (0, "bias", (4,)), (1, "weight", (10, 4)), (1, "bias", (10,)))
#: what is put in: separators, brackets, large and negative numbers
TOKENS = (
    b",",
    b"\n",
    b'"',
    b"'",
    b":",
    b"{",
    b"}",
    b"[",
    b"]",
    b"-1",
    b"0",
    b"1e999",
    b"null",
    b"NaN",
    b"\x00",
    b"\xff" * 4,
    b"99999999999999999999",
    b"\xef\xbb\xbf",
    b"true",
    b"\\u0000",
    b"..",
    b"/",
)
#: a table of two classes with columns of text and of codes
CODED = "mode,a,label,code\n" + "".join(
    f"{('belt', 'arm', 'wrist')[n % 3]},{n * 7 % 11 / 2},{n % 2},{n // 2 % 4}\n" for n in range(24)
)
RECIPES = {
    "tinyfoa": Recipe("fuzz", "fc:21,9", slices=2),
    "real": Recipe("fuzz", "fc:21,9", slices=2, binary_weights=False, binary_activations=False),
    "int8": Recipe("fuzz", "fc:21,9", slices=3, moments="int8", schedule="stream"),
    "recompute": Recipe("fuzz", "fc:21,9", slices=1, recompute=True),
    "lc": Recipe("fuzz", "lc:3,2", slices=2),
    "bp": Recipe("fuzz", "fc:21,9", "bp"),
    "bp-lc": Recipe("fuzz", "lc:3,2", "bp"),
    "drtp": Recipe("fuzz", "fc:21,9", "drtp"),
    "pepita": Recipe("fuzz", "fc:21,9", "pepita"),
    "ff": Recipe("fuzz", "fc:21,9", "ff"),
    "ff-each": Recipe("fuzz", "fc:21,9", "ff", options={"classifiers": "each"}),
    "giff": Recipe("fuzz", "cnn", "giff"),
    "resnet8": Recipe("fuzz", "resnet8", "bp"),
    "bop": Recipe("fuzz", "fc:21,9", slices=2, optimizer="bop"),
    "biofo": Recipe("fuzz", "fc:21,9", "biofo"),
    "monoforward": Recipe("fuzz", "fc:21,9", "monoforward"),
    "dfa": Recipe("fuzz", "fc:21,9", "dfa"),
    "dfa-lc": Recipe("fuzz", "lc:3,2", "dfa"),
    "fa": Recipe("fuzz", "fc:21,9", "fa"),
    "pepita_tl": Recipe("fuzz", "fc:21,9", "pepita_tl"),
    "deeperforward": Recipe("fuzz", "conv:6,p2,6", "deeperforward"),
    "deeperforward-resnet8": Recipe("fuzz", "resnet8", "deeperforward"),
    "giff-fc": Recipe("fuzz", "fc:20,10", "giff"),
    "pepita_wm": Recipe("fuzz", "fc:21,9", "pepita_wm"),
    "cwcomp": Recipe("fuzz", "conv:6,p2,9", "cwcomp"),
    "fa-conv": Recipe("fuzz", "conv:6,m2,f9", "fa"),
    "drtp-conv": Recipe("fuzz", "conv:6,m2,f9", "drtp"),
    "biofo-conv": Recipe("fuzz", "conv:6,m2,9", "biofo"),
    "monoforward-conv": Recipe("fuzz", "conv:6,m2,9", "monoforward"),
}
Damage = Callable[[random.Random], None]  # puts a damaged file or directory in its place


class Gone(BaseException):
    """The process is gone, in the middle of a training."""


class TooLong(BaseException):
    """A file took too long."""


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


# -- genuine files -----------------------------------------------------------------------------------------------------


def samples(kind: str = "bytes") -> Dataset:
    """A few small images of three classes."""
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 256, (40, 64), np.uint8)
    if kind == "real":
        inputs = rng.normal(size=(40, 64)).astype(np.float32)
    split = Split(inputs, np.arange(40, dtype=np.uint16) % 3)
    return Dataset("fuzz", split, Split(inputs[:15], split.labels[:15]), 3, 0.01, 0.0, image=IMAGE)


def trained(where: Path, name: str, leave_at: int | None = None) -> Path:
    """A finished run, or one that was left after so many batches; audited, for its reports."""
    which, seen = replace(RECIPES[name], epochs=2, batch=16, lr=0.003), 0

    def leave(event) -> None:
        nonlocal seen
        seen += event.kind == "batch"
        if seen == leave_at:
            raise Gone

    try:
        train(which, samples("real" if name == "real" else "bytes"), where, threads=1, commit_every=1, on_event=leave)
    except Gone:
        pass
    return where


# -- what is damaged, and what reads it --------------------------------------------------------------------------------


def models(folder: Path, name: str) -> tuple[Path, Damage, Callable[[], object]]:
    """A model in which something is not what it was; it answers, and is exported."""
    run, path = trained(folder / "run", name), folder / "hostile.safetensors"
    known, x = opened_model(run / "model.safetensors"), samples("real" if name == "real" else "bytes").test.inputs
    shutil.copy(run / "model.safetensors", path)
    formats = export_formats(model.load(path)) if name != "resnet8" else []  # its text takes seconds

    def read() -> None:
        ours = model.load(path)
        answers = ours.predict(x)
        if not (0 <= answers.min() and answers.max() < ours.classes):
            raise AssertionError(f"answers {answers}")
        if name == "ff" and ours.classes < 100:
            answers, _ = exits.predict(ours, x, np.ones(2))
        if ours.classes < 1000:
            for to in formats:
                export.export(ours, to)

    return path, lambda rng: None if path.write_bytes(changed_model(*known, rng)) else None, read


def export_formats(ours: Model) -> list[str]:
    """Forms in which such a model can be exported."""
    found = []
    for to in export.FORMATS:
        with contextlib.suppress(BadRequest):
            export.export(ours, to)
            found.append(to)
    return found


def starts(folder: Path, name: str) -> tuple[Path, Damage, Callable[[], object]]:
    """A finished run in which something is not what it was, its model included: another training begins with it."""
    genuine, path, further = trained(folder / "genuine", name), folder / "hostile", folder / "further"
    known, dataset = opened_model(genuine / "model.safetensors"), samples()
    shutil.copytree(genuine, path)

    def damage(rng: random.Random) -> None:
        shutil.rmtree(path)
        shutil.copytree(genuine, path)
        if rng.random() < 0.5:
            changed_run(path, rng)
        else:
            (path / "model.safetensors").write_bytes(changed_model(*known, rng))

    def read() -> None:
        shutil.rmtree(further, ignore_errors=True)
        start = Start.of(path)
        recipe = following(start.model, "fuzz", epochs=1, batch=16, freeze=None if name == "giff" else "1")
        train(recipe, dataset, further, threads=1, start=start)

    return path, damage, read


def trainers(folder: Path, name: str) -> tuple[Path, Damage, Callable[[], object]]:
    """A finished run in which something is not what it was: it becomes a trainer in C."""
    genuine, path, dataset = trained(folder / "genuine", name), folder / "hostile", samples()
    shutil.copytree(genuine, path)

    def damage(rng: random.Random) -> None:
        shutil.rmtree(path)
        shutil.copytree(genuine, path)
        changed_run(path, rng)

    def read() -> None:
        recipe = read_recipe(path).validated()
        c_layout.check_scope(recipe)
        layout = c_layout.fit(recipe, dataset, c_layout.NOR, True, None)
        c_trainer.write(layout, dataset, folder / "trainer", *device.images(path, layout))

    return path, damage, read


def runs(folder: Path, name: str, leave_at: int | None) -> tuple[Path, Damage, Callable[[], object]]:
    """A run in which something is not what it was: it is resumed or, if it had finished, shown."""
    genuine, path = trained(folder / "genuine", name, leave_at), folder / "hostile"
    shutil.copytree(genuine, path)

    def damage(rng: random.Random) -> None:
        shutil.rmtree(path)
        shutil.copytree(genuine, path)
        changed_run(path, rng)

    chances = itertools.chain([1.0], itertools.repeat(0.05))  # of being shown as a page, which takes seconds

    def read() -> None:
        startable(path)
        if leave_at is None:
            results.figures(path), results.epochs(path), audit.audit(path)
            if random.random() < next(chances):
                page.write(path)
        result = train(read_recipe(path), None, path, threads=1, resume=True)
        model.load(path / "model.safetensors")
        results.figures(path), results.epochs(path)
        if result["recipe"]["network"].startswith("fc") and result["recipe"]["algorithm"] != "giff":
            results.weights(path, results.layers(path, results.model(path))[0])

    return path, damage, read


def files(folder: Path) -> dict[str, tuple[bytes, Callable[[bytes], object]]]:
    """Genuine content of each kind of file that is damaged byte by byte, and what reads it."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 3)), np.arange(12) % 3
    saved: dict[str, io.BytesIO] = {name: io.BytesIO() for name in ("npz", "npy")}
    np.savez(saved["npz"], x=x, y=y)
    np.save(saved["npy"], x)
    np.save(folder / "labels.npy", y)
    table = "a,label,b\n" + "".join(f"{p:.3f},{'one two three'.split()[k]},{q:.3f}\n" for (p, q, _), k in zip(x, y))
    known = recorded(folder)[0]
    run, store = trained(folder / "bytes", "tinyfoa"), folder / "store"
    recipe = (run / "recipe.json").read_text()
    identity = Recipe.from_json(recipe).validated().identity

    def written(suffix: str, reads: Callable[[Path], object]) -> Callable[[bytes], object]:
        path = folder / f"fuzzed{suffix}"
        return lambda content: path.write_bytes(content) and reads(path)

    def opened(name: str) -> Callable[[bytes], object]:
        def read(content: bytes) -> None:
            shutil.rmtree(store, ignore_errors=True)
            shutil.copytree(run / "flash", store)
            (store / name).write_bytes(content)
            Flash.open(store, identity, memoryview(bytearray(4096))).close()

        return read

    def imported(path: Path) -> None:
        load_weights(path, "fc:4", data.shape("digits"), folder / "imported.safetensors")

    tensors = {f"{n}.{part}": np.ones(shape, np.float32) for n, part, shape in WEIGHTS}
    torch = to_bytes(tensors)
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], initializers)).SerializeToString()
    flash = {f"flash-{p.name}": (p.read_bytes(), opened(p.name)) for p in (run / "flash").iterdir() if p.stat().st_size}
    stopping = trained(folder / "stopping", "ff") / "model.safetensors"
    thresholds = exits.Thresholds([1.0, 2.0], [0.5, 0.25])
    thresholds.save(stopping)

    def stopped(content: bytes) -> None:
        stopping.with_name(exits.NAME).write_bytes(content)
        ours = model.load(stopping)
        exits.predict(ours, samples().test.inputs, exits.Thresholds.load(stopping, ours).limits())

    return {
        "exit": (stopping.with_name(exits.NAME).read_bytes(), stopped),
        "idx": (b"\0\0\x08\x02" + bytes([0, 0, 0, 4, 0, 0, 0, 3]) + bytes(range(12)), lambda c: idx.parse(c, "file")),
        "cifar": (bytes([3]) + bytes(3072), lambda c: cifar.SETS["cifar10"].parse(c, "file.bin")),
        "pickle": (GENUINE, lambda c: pickles.load(c, "file")),
        "csv": (table.encode(), written(".csv", lambda path: data.load(str(path)))),
        "one-hot": (CODED.encode(), written(".csv", lambda path: data.load(str(path), reading=coded(path)))),
        "one-hot-new": (CODED.encode(), written(".csv", lambda path: csv_table.read_new(path, known))),
        "npz": (saved["npz"].getvalue(), written(".npz", lambda path: data.load(str(path)))),
        "npy": (saved["npy"].getvalue(), written(".npy", lambda path: data.load(f"{path},{folder}/labels.npy"))),
        "recipe": (recipe.encode(), lambda c: Recipe.from_json(c.decode(errors="replace")).validated()),
        "model": ((run / "model.safetensors").read_bytes(), written(".safetensors", model.load)),
        "weights": (torch, written(".safetensors", imported)),
        "onnx": (graph, written(".onnx", imported)),
        **flash,
    }


def arrays(folder: Path) -> tuple[Path, Damage, Callable[[], object]]:
    """An .npy file whose header says something else of shape, dtype or order."""
    path, x = folder / "hostile.npy", np.arange(36, dtype=np.float32).reshape(12, 3)
    np.save(path, x)
    np.save(folder / "labels.npy", np.arange(12) % 3)
    header = {"descr": "<f4", "fortran_order": False, "shape": [12, 3]}

    def damage(rng: random.Random) -> None:
        other = changed(header, rng)
        if isinstance(other, dict) and isinstance(other.get("shape"), list):
            other["shape"] = tuple(other["shape"])
        text = (repr(other) + "\n").encode()[:60000]
        path.write_bytes(b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text + x.tobytes())

    return path, damage, lambda: data.load(f"{path},{folder}/labels.npy")


def coded(path: Path) -> Reading:
    """How a table with columns of codes is read: missing values are refused or filled, depending on its size."""
    return Reading(one_hot=("mode", "code"), missing=MISSING[path.stat().st_size % 2])


def recorded(folder: Path) -> tuple[Known, Path]:
    """How the genuine table with columns of codes was read, as a model holds it; and that table."""
    path = folder / "coded.csv"
    path.write_text(CODED)
    origin = data.load(str(path), reading=Reading(one_hot=("mode", "code"), missing="median")).origin
    return Known.from_record((origin or {})["reading"]), path


def records(folder: Path) -> tuple[Path, Damage, Callable[[], object]]:
    """How a table was read, in which something is not what it was: the genuine table is read by it."""
    (known, table), path = recorded(folder), folder / "record.json"
    genuine = known.to_record()

    def read() -> None:
        own = Known.from_record(json.loads(path.read_text()))
        inputs = csv_table.read_new(table, own).inputs
        if own.medians is not None and inputs.shape[1] != len(own.medians):
            raise AssertionError(f"inputs {inputs.shape}")

    path.write_text(json.dumps(genuine))
    return path, lambda rng: None if path.write_text(json.dumps(changed(genuine, rng))) else None, read


def kind_of(folder: Path, kind: str) -> tuple[Path, Damage, Callable[[], object]]:
    """Where a kind of file lies, what damages it, and what reads it."""
    what, _, name = kind.partition("-")
    if what == "model" and name:
        return models(folder, name)
    if what in ("begun", "done"):
        by_layer = RECIPES[name].algorithm == "tinyfoa"  # it is left in the second layer then
        return runs(folder, name, {"begun": 7 if by_layer else 3}.get(what))
    if what in ("start", "trainer"):
        return {"start": starts, "trainer": trainers}[what](folder, name)
    if kind in ("header", "one-hot-record"):
        return {"header": arrays, "one-hot-record": records}[kind](folder)
    genuine, read = files(folder)[kind]
    path = folder / "content"
    path.write_bytes(genuine)
    return path, lambda rng: None if path.write_bytes(damaged(genuine, rng)) else None, lambda: read(path.read_bytes())


KINDS = (
    *(f"{what}-{name}" for what in ("model", "begun", "done") for name in RECIPES),
    "start-tinyfoa",
    "start-lc",
    "start-bp",
    "start-giff",
    "trainer-tinyfoa",
    "trainer-int8",
    "header",
    "idx",
    "cifar",
    "pickle",
    "csv",
    "one-hot",
    "one-hot-new",
    "one-hot-record",
    "npz",
    "npy",
    "recipe",
    "model",
    "weights",
    "onnx",
    "exit",
    "flash-root.0",
    "flash-root.1",
    "flash-layer0.slices",
)


# -- one kind, in a process of its own ---------------------------------------------------------------------------------


def largest() -> int:
    """The most bytes that this process has had in RAM."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def child(kind: str, seconds: float, seed: str, folder: Path) -> int:
    """Reads damaged files until the time is over; writes how many, and each find, as lines of JSON."""
    faulthandler.enable()
    warnings.simplefilter("ignore")
    for name in ("fsync", "fdatasync"):  # nothing here must survive a power cut
        setattr(os, name, lambda fd: None)

    def too_long(number: int, frame: object) -> None:
        raise TooLong

    signal.signal(signal.SIGPROF, too_long)
    path, damage, read = kind_of(folder, kind)
    read()
    rng, end, tried, refused, before = random.Random(seed), time.monotonic() + seconds, 0, 0, largest()
    while time.monotonic() < end:
        damage(rng)
        print(json.dumps({"at": str(path)}), flush=True)
        tried, problem = tried + 1, ""
        signal.setitimer(signal.ITIMER_PROF, MOST_CPU)
        try:
            read()
        except TinyFoAError as error:
            refused += 1
            if not str(error) or not str(error).isprintable():
                problem = f"says {str(error)!r}"
        except (Exception, TooLong):
            problem = traceback.format_exc()
        signal.setitimer(signal.ITIMER_PROF, 0)
        if largest() - before > MOST_RAM:
            problem += f"{(largest() - before) / 1e6:.0f} MB more than the genuine file"
            before = largest()
        if problem:
            print(json.dumps({"problem": problem}), flush=True)
            break  # what is left of it may show in the next one
    print(json.dumps({"tried": tried, "refused": refused}), flush=True)
    return 0


def perform(kind: str, seconds: float) -> int:
    """One kind of file for so long; how many finds."""
    finds, tried, refused, round_, end = 0, 0, 0, 0, time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        round_ += 1
        with tempfile.TemporaryDirectory() as folder:
            seed = f"{kind} {time.time_ns()}"
            command = [sys.executable, __file__, "--child", kind, str(left), seed, folder]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
            said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
            problem = next((line["problem"] for line in said if "problem" in line), "")
            if done.returncode:
                problem = f"ended with {done.returncode}: {done.stderr[-3000:]}"
            counts = [line for line in said if "tried" in line]
            tried += sum(line["tried"] for line in counts) or len(said)
            refused += sum(line["refused"] for line in counts)
            if problem:
                finds += 1
                kept = Path(f"find-{kind}-{finds}")
                where = [Path(line["at"]) for line in said if "at" in line]
                if where and where[-1].is_dir():
                    shutil.copytree(where[-1], kept, dirs_exist_ok=True)
                elif where:
                    shutil.copy(where[-1], kept)
                print(f"{kept}: {problem}", flush=True)
                if finds >= 20 or not where:
                    break
    print(f"{kind}: {tried:,} files, {refused:,} refused, {finds} finds", flush=True)
    return finds


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        return child(sys.argv[2], float(sys.argv[3]), sys.argv[4], Path(sys.argv[5]))
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    found = sum(perform(kind, seconds) for kind in sys.argv[2:] or KINDS)
    print(f"{found} finds")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
