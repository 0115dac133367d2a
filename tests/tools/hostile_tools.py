"""Files as a stranger may have made them: one thing is not what it must be, and all checksums hold."""

import copy
import json
import random
import struct
import zlib
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from tinyfoa_np.model import model
from tinyfoa_np.storage.sizes import Sizes

SEAL = 24  # bytes of a seal in flash

#: what takes the place of a value in JSON
VALUES = (
    -1,
    0,
    1,
    2,
    7,
    4096,
    65535,
    65536,
    10**9,
    2**31,
    2**62,
    2**63,
    10**30,
    -(2**63),
    0.5,
    -0.5,
    1e-300,
    1e30,
    1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
    True,
    False,
    None,
    "",
    "a",
    "\x1b[31mred\n",
    "../../etc",
    "x" * 5000,
    [],
    {},
    [1, 2, 3],
    [[[]]],
    {"a": 1},
    [1.5] * 50,
    "fc:4096",
    "fc:9x3",
    "lc:2",
    "cnn",
    "bp",
    "bits",
    "bytes",
    "real",
)


def places(tree, at=()):
    """The place of every value in a JSON tree."""
    yield at
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in children:
        yield from places(value, (*at, key))


def changed(tree, rng: random.Random):
    """A copy with one value replaced, taken away, moved to another place or, a number, a little different."""
    tree = copy.deepcopy(tree)
    where = [place for place in places(tree) if place]
    if not where:
        return rng.choice(VALUES)
    *way, last = rng.choice(where)
    parent = tree
    for key in way:
        parent = parent[key]
    value, kind = parent[last], rng.randrange(8)
    if kind == 0:
        del parent[last]
    elif kind == 1 and type(value) in (int, float):
        parent[last] = value + rng.choice((-1, 1, 8, 64, -64))
    elif kind == 2:
        other = tree
        for key in rng.choice(where):
            other = other[key]
        parent[last] = copy.deepcopy(other)
    elif kind == 3 and isinstance(parent, list):
        parent.insert(last, copy.deepcopy(value))
    elif kind == 3:
        parent[rng.choice(("", "extra", f"{last} "))] = copy.deepcopy(value)
    else:
        parent[last] = rng.choice(VALUES)
    return tree


def changed_array(array: np.ndarray, rng: random.Random) -> np.ndarray:
    """An array of another dtype or shape, or with numbers in it that training does not write."""
    kind = rng.randrange(6)
    if kind == 0:
        with np.errstate(all="ignore"):
            return array.astype(rng.choice(("float64", "int64", "uint8", "float16", "int32", "bool")))
    if kind == 1:
        return array[: rng.randrange(len(array) + 1)] if array.ndim and len(array) else array.reshape(-1)
    if kind == 2:
        return np.concatenate([array, array], axis=rng.randrange(array.ndim))
    if kind == 3:
        return array.reshape(-1) if array.ndim > 1 else array.reshape(1, -1)
    array = array.copy()
    flat = array.reshape(-1)
    if flat.size:
        at = rng.randrange(flat.size)
        if array.dtype == np.uint64:
            flat[at] = rng.choice((0, 2**64 - 1, 2**63, rng.getrandbits(64)))
        elif array.dtype == np.float32:
            flat[at] = rng.choice((np.nan, np.inf, -np.inf, 1e38, -1e38, 1e-45, 0, -1, rng.random()))
    return array


# -- models ------------------------------------------------------------------------------------------------------------


def opened_model(path: Path):
    """What a model file holds: tensors, and what it says."""
    with safe_open(path, "numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()[model.METADATA])


def sealed(tensors, about) -> bytes:
    """A model file whose checksum holds, as far as there is anything to sum over."""
    try:
        about = {**about, "sha256": model._digest(tensors, about)}
    except (KeyError, TypeError):
        pass
    return save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, {model.METADATA: json.dumps(about)})


def changed_model(tensors, about, rng: random.Random) -> bytes:
    """A model in which one thing, sometimes two, is not what it was."""
    tensors = dict(tensors)
    for _ in range(rng.choice((1, 1, 1, 2))):
        kind = rng.randrange(8)
        if kind < 3:
            about = changed(about, rng)
        elif kind == 3:
            if not isinstance(about, dict) or not isinstance(about.get("recipe"), str) or about["recipe"][:1] != "{":
                continue
            about = {**about, "recipe": json.dumps(changed(json.loads(about["recipe"]), rng))}
        elif not tensors:
            continue
        elif kind == 4:
            name = rng.choice(sorted(tensors))
            tensors[rng.choice((name + "x", "layer9.weights", "inputs.shift", "inputs.factor"))] = tensors[name]
        elif kind == 5:
            del tensors[rng.choice(sorted(tensors))]
        else:
            name = rng.choice(sorted(tensors))
            tensors[name] = changed_array(tensors[name], rng)
    return sealed(tensors, about)


# -- roots -------------------------------------------------------------------------------------------------------------


def opened_root(content: bytes):
    """Sequence number and fields of a root, its meta as a tree."""
    _, sequence, length = struct.unpack_from("<8sQQ", content)
    fields = json.loads(content[28 : 28 + length])
    fields["meta"] = json.loads(fields["meta"])
    return sequence, fields


def sealed_root(sequence: int, fields) -> bytes:
    """A root whose checksum holds."""
    if isinstance(fields, dict) and isinstance(fields.get("meta"), dict):
        fields = {**fields, "meta": json.dumps(fields["meta"])}
    body = json.dumps(fields).encode()
    header = struct.pack("<8sQQ", b"TFOAFL\x00\x02", sequence, len(body))
    return header + struct.pack("<I", zlib.crc32(body, zlib.crc32(header))) + body


def slots_of(start: int, size: int, slots: int) -> list[tuple[int, int]]:
    """Where data and seal begin in each slot of an item that begins at ``start`` in its file."""
    middle = start + -(-(size + SEAL) // 4096) * 4096
    return [(start, start + size)] if slots == 1 else [(middle - SEAL - size, middle - SEAL), (middle + SEAL, middle)]


def intact(content: bytes, at: int) -> bool:
    """Whether there is a seal."""
    fields, check = content[at : at + 20], content[at + 20 : at + 24]
    return any(fields) and zlib.crc32(fields) == int.from_bytes(check, "little")


def resealed_items(directory: Path) -> None:
    """Gives seals and the newest root of a flash the sums that the data and the intact seals have now."""
    roots = {opened_root(path.read_bytes())[0]: path for path in directory.glob("root.?") if path.stat().st_size}
    path = roots[max(roots)]
    sequence, fields = opened_root(path.read_bytes())
    for name, known in fields["objects"].items():
        content, start, sums = bytearray((directory / name).read_bytes()), 0, [0, 0]
        for size in Sizes.parsed(known["sizes"]):
            places = slots_of(start, size, known["slots"])
            seals = [(struct.unpack_from("<QIII", content, at), data, at) for data, at in places if intact(content, at)]
            if live := [one for one in seals if one[0][0] <= sequence]:
                (commit, _, *wear), data, at = max(live)
                checksum = zlib.crc32(content[data : data + size])
                fresh = struct.pack("<QIII", commit, checksum, *wear)
                content[at : at + SEAL] = fresh + struct.pack("<I", zlib.crc32(fresh))
                sums = [sums[0] + commit, sums[1] + checksum]
            start += -(-(size + SEAL) // 4096) * 4096 * known["slots"]
        known["commits"], known["checksums"] = sums
        (directory / name).write_bytes(content)
    path.write_bytes(sealed_root(sequence, fields))


# -- runs --------------------------------------------------------------------------------------------------------------


def changed_run(directory: Path, rng: random.Random) -> None:
    """Changes one thing in a run directory: in a JSON file, in a root, or bytes of an item; all checksums hold."""
    kind = rng.randrange(10)
    flash = directory / "flash"
    if kind < 4:
        name = rng.choice([name for name in ("recipe.json", "data.json", "audit.json") if (directory / name).exists()])
        path = directory / name
        path.write_text(json.dumps(changed(json.loads(path.read_text()), rng)))
        if name == "recipe.json" and rng.random() < 0.7:
            _follow_recipe(directory)
    elif kind == 4:
        path = directory / "metrics.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(row) + "\n" for row in (changed(rows, rng) if rows else [{}])))
    elif kind < 8:
        for path in flash.glob("root.?"):
            sequence, fields = opened_root(path.read_bytes())
            which = rng.random()
            if which < 0.6:
                fields["meta"] = changed(fields["meta"], rng)
            else:
                fields = changed(fields, rng)
            path.write_bytes(sealed_root(sequence, fields))
    else:
        path = rng.choice([path for path in sorted(flash.iterdir()) if path.name[:4] not in ("root", "lock")])
        content = bytearray(path.read_bytes())
        for _ in range(rng.choice((1, 4, 100))):
            at = rng.randrange(len(content)) if content else 0
            value = rng.choice((b"\xff\xff", b"\0\0\xc0\x7f", b"\xff" * 64, b"\0\x80", rng.randbytes(8)))
            content[at : at + len(value)] = value
        path.write_bytes(content)
        resealed_items(flash)


def _follow_recipe(directory: Path) -> None:
    """Gives the roots the identity of the recipe that lies beside them, if that is one."""
    from tinyfoa_np.errors import TinyFoAError
    from tinyfoa_np.recipe import Recipe

    try:
        recipe = Recipe.from_json((directory / "recipe.json").read_text()).validated()
    except TinyFoAError:
        return
    for path in (directory / "flash").glob("root.?"):
        sequence, fields = opened_root(path.read_bytes())
        path.write_bytes(sealed_root(sequence, {**fields, "identity": recipe.identity}))
