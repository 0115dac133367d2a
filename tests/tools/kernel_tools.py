"""Calls kernels on arrays that lie in one block, and makes the awkward operands they are tested with.

Whatever a kernel reads beyond its arrays, or takes from memory that nobody wrote, is garbage: so each call is made
twice, on two kinds of garbage, and must leave the same. What it writes beyond its arrays shows in the garbage around.
"""

from functools import lru_cache
from types import SimpleNamespace
from typing import NamedTuple

import numba
import numpy as np

from tinyfoa_np.kernels import dense_backward as backward
from tinyfoa_np.kernels import dense_forward as forward
from tinyfoa_np.kernels import dense_gradient as gradient_kernels
from tinyfoa_np.kernels import dense_update as update
from tinyfoa_np.kernels import operands
from tinyfoa_np.kernels.operands import Biases, Draws, Given, Projected, Published, Resident, Scratch, Step
from tinyfoa_np.kernels.optimizers import NUMBERS
from tinyfoa_np.kernels.tables import PLANES
from tinyfoa_np.reference import bits, tinyfoa
from tinyfoa_np.slices import Slice

EPS = float(np.finfo(np.float32).eps)
# In blank arrays, and between arrays: bytes that make floats between 0 and 1, where every mask is open, and bytes that
# make NaN. The two differ, so that a copy of what lies beyond an array cannot pass for an element that was not written.
GARBAGE = (0x3F, 0xFF), (0xFF, 0x3F)
GAP = 72  # bytes between arrays; no multiple of 64, so that arrays start at any multiple of 8

KINDS = "bits", "bytes", "real"  # of inputs
STORED = "signs", "floats"  # of weights, as the forward pass reads them
RESIDENT = "".join(f"resident.{name} " for name in Resident._fields)  # what an update may write
NO_DRAWS = Draws(*[np.uint64(0)] * 5)


def turned(X):
    """Bits (B, I) as the kernels of this processor read them; with AVX2 byte k of an input's word is in plane k."""
    words = bits.turn(X)
    if not PLANES:
        return words
    planes = words.view(np.uint8).reshape(*words.shape, 4).transpose(0, 2, 1)
    return planes.ravel().view(np.uint32).reshape(words.shape)


@lru_cache
def called(helper):
    """A function that Python may call, around one that only kernels call."""
    return numba.njit(lambda *arguments: helper(*arguments))


class Blank(NamedTuple):
    """An array of which nothing is known before the call."""

    shape: tuple
    dtype: str


def in_one_block(arrays, inside, around):
    """Copies of the arrays, garbage between them; and a function that says whether that is as it was."""
    wanted = {name: np.prod(a.shape, dtype=int) * np.dtype(a.dtype).itemsize for name, a in arrays.items()}
    block = np.full(GAP + sum(-(-size // 8) * 8 + GAP for size in wanted.values()) + 8, around, np.uint8)
    outside, views = np.ones(block.size, bool), {}
    start = -block.ctypes.data % 8 + GAP
    for name, array in arrays.items():
        stop = start + wanted[name]
        block[start:stop], outside[start:stop] = inside, False
        views[name] = block[start:stop].view(array.dtype).reshape(array.shape)
        if isinstance(array, np.ndarray):
            views[name][...] = array
        start += -(-wanted[name] // 8) * 8 + GAP
    return views, lambda: bool((block[outside] == around).all())


def run(kernel, may_write, lay_out=in_one_block, **arguments):
    """What a kernel makes of copies of its arrays.

    Parameters
    ----------
    kernel : compiled function
    may_write : str
        Names of the arrays that it may change, with spaces between; ``argument.field`` for one in a named tuple.
    lay_out : callable
        Like :func:`in_one_block`.
    **arguments
        Its arguments by name: arrays, :class:`Blank`, numbers, or named tuples of such.

    Returns
    -------
    SimpleNamespace
        The arguments by name, as they are afterwards; `returned`, what the call returned; and `written`, for each
        :class:`Blank` which of its elements were written.
    """
    order = kernel.py_func.__code__.co_varnames[: kernel.py_func.__code__.co_argcount]
    assert set(order) == set(arguments)
    arrays = {}
    for name, value in arguments.items():
        members = {f"{name}.{field}": member for field, member in fields_of(value).items()} or {name: value}
        arrays |= {name: member for name, member in members.items() if isinstance(member, (np.ndarray, Blank))}

    def in_place(name, values):
        value = arguments[name]
        whole = {field: values.get(f"{name}.{field}", member) for field, member in fields_of(value).items()}
        return type(value)(**whole) if whole else values.get(name, value)

    after, returned = [], []
    for garbage in GARBAGE:
        views, untouched = lay_out(arrays, *garbage)
        returned.append(kernel(*(in_place(name, views) for name in order)))
        assert untouched(), "the kernel wrote outside its arrays"
        after.append({name: view.copy() for name, view in views.items()})
    assert returned[0] == returned[1], "what the kernel returns depends on memory that nobody wrote"
    written = {}
    for name, array in arrays.items():
        first, second = (as_bytes(state[name]) for state in after)
        if isinstance(array, Blank):
            left = ((first == GARBAGE[0][0]) & (second == GARBAGE[1][0])).all(axis=-1)
            written[name] = ~left
        else:
            left = np.zeros(array.shape, bool)
        assert (left | (first == second).all(axis=-1)).all(), f"{name} depends on memory that nobody wrote"
        if name not in may_write.split():
            kept = not written[name].any() if name in written else (first == as_bytes(array)).all()
            assert kept, f"the kernel wrote into {name}"
    return SimpleNamespace(**{n: in_place(n, after[0]) for n in order}, returned=returned[0], written=written)


def fields_of(value):
    """The fields of a named tuple; of anything else, none."""
    return value._asdict() if hasattr(value, "_asdict") and not isinstance(value, Blank) else {}


def as_bytes(array):
    """The bytes of each element, along a last axis."""
    return np.ascontiguousarray(array).reshape(*array.shape, 1).view(np.uint8)


def same_bits(a, b):
    """Whether two arrays hold the same bits (NaN, and 0 of either sign, included)."""
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


class Inputs(NamedTuple):
    """A batch of inputs as a kernel takes them, and what they mean: X = gain * (scale * operand + offset)."""

    operand: np.ndarray  # (B, words) uint64, (B, I) uint8 or (B, I) float32
    X: np.ndarray  # (B, I) float64
    size: np.ndarray  # (B, I) float64: |gain| (|scale * operand| + |offset|), what rounding errors are relative to
    gain: np.float32  # the scale of bits; 1 for others
    scale: np.float32  # of bytes; 1 for others
    offset: np.float32  # of bytes; 0 for others


def make_inputs(rng, kind, B, I):
    """A batch of a kind; of bits and bytes some samples are all zeros or all ones."""
    gain, scale, offset = np.float32(1), np.float32(1), np.float32(0)
    if kind == "bits":
        gain = np.float32(rng.uniform(0.1, 2))
        values = rng.random((B, I)) < rng.choice([0, 0.1, 0.5, 0.9, 1], (B, 1))
        operand = bits.pack(values)
    elif kind == "bytes":
        scale, offset = np.float32(rng.uniform(0.001, 0.02)), np.float32(rng.uniform(-1, 1))
        operand = values = (rng.integers(0, 256, (B, I)) * rng.choice([0, 1, 1], (B, 1))).astype(np.uint8)
        operand[rng.random((B, I)) < 0.1] = 255
    else:
        operand = values = rng.standard_normal((B, I)).astype(np.float32)
    scaled = float(gain) * float(scale) * values.astype(np.float64)
    return Inputs(operand, scaled + float(offset), np.abs(scaled) + abs(float(offset)), gain, scale, offset)


def make_weights(rng, O, I):
    """Weights (O, I) float32 within +-1, some of them where the masks and the signs have their edges."""
    edges = np.array([0.0, -0.0, 1.0, -1.0, np.nextafter(np.float32(1), np.float32(0)), 1e-30, -1e-30], np.float32)
    W = rng.uniform(-1, 1, (O, I)).astype(np.float32)
    return np.where(rng.random((O, I)) < 0.1, rng.choice(edges, (O, I)), W)


def stored(W, form):
    """Weights as the forward pass reads them."""
    return bits.pack_panels(W) if form == "signs" else W


def pack_active(mask):
    """A mask (rows, B) as the forward pass writes it: bit s % 16 of [row, s // 16]."""
    rows, B = mask.shape
    padded = np.zeros((rows, -(-B // 16) * 16), bool)
    padded[:, :B] = mask
    return np.packbits(padded, axis=1, bitorder="little").view("<u2").astype(np.uint16)


def exact_sum(values, unit, most=np.inf):
    """The sum of magnitudes, each rounded to steps of 1 / unit, as an integer."""
    return int((np.minimum(np.abs(values.astype(np.float64)), most) * unit + 0.5).astype(np.int64).sum())


def step_sizes(optimizer, lr, t):
    """``rate`` and ``root`` of the t-th step, as the update takes them."""
    if optimizer != "adam":
        return np.float32(lr), np.float32(1)
    return np.float32(lr / (1 - 0.9**t)), np.float32(1 / np.sqrt(1 - 0.999**t))


class Batch(NamedTuple):
    """One batch before one layer: all that a step computes with."""

    inputs: Inputs
    W: np.ndarray  # (O, I) float32
    form: str  # of the weights that the forward pass reads
    b: np.ndarray  # (O,) float32
    P: np.ndarray  # (O, C) float32, a row per neuron: the transpose of the reference's
    samples: int  # of the B in the region
    binary: bool  # activations
    alpha: float  # scale of the weights

    @property
    def gain(self):
        return np.float32(float(self.inputs.gain) * self.alpha)


def make_batch(seed, kind, form, binary, samples, B, I, O, C):
    """A batch of random operands."""
    rng = np.random.default_rng(seed)
    inputs, W = make_inputs(rng, kind, B, I), make_weights(rng, O, I)
    b = rng.choice([0, 0.1, 1], O).astype(np.float32) * rng.uniform(-1, 1, O).astype(np.float32)
    P = (rng.standard_normal((O, C)) * np.sqrt(2 / O)).astype(np.float32)
    alpha = tinyfoa.binarize_weights(W)[1] if form == "signs" else 1.0
    return Batch(inputs, W, form, b, P, samples, binary, alpha)


def run_forward(batch, tile, threads=1, cuts=(), active_first=0, active_rows=None, parts=(), lay_out=in_one_block):
    """The forward pass of a batch, the neurons cut at ``cuts``, the samples at ``parts``; its last call's arrays.

    ``outputs`` are those of the last part.
    """
    inputs, (O, I) = batch.inputs, batch.W.shape
    B, C, words = len(inputs.operand), batch.P.shape[1], -(-I // 64)
    rows = O - active_first if active_rows is None else active_rows
    kind = np.dtype(np.uint64 if batch.form == "signs" else np.float32)
    carried = {
        "active": Blank((rows, -(-B // 16)), "uint16"),
        "logits": Blank((C, B), "float32"),
        "abs_z": np.zeros(threads, np.int64),
    }
    for start, stop in zip([0, *parts], [*parts, B]):
        held = stop - start
        carried["outputs"] = Blank((held, -(-O // 64)), "uint64") if batch.binary else Blank((held, O), "float32")
        for first, last in zip([0, *cuts], [*cuts, O]):
            weights = stored(batch.W[first:last], batch.form)
            done = run(
                forward.forward,
                "scratch z " + " ".join(f"results.{name}" for name in carried),
                lay_out,
                inputs=inputs.operand[start:stop].copy(),
                samples=max(0, min(batch.samples, stop) - start),
                scale=inputs.scale,
                offset=inputs.offset,
                columns=I,
                binary=batch.binary,
                unit=2.0**20,
                neurons=forward.Neurons(first, last, weights, batch.b, batch.gain, batch.P[first:last].copy()),
                z=Blank((tile, held), "float32"),
                results=forward.Results(start, active_first=active_first, **carried),
                scratch=Blank(*forward.scratch_shape(inputs.operand.dtype, kind, held, words, threads)),
            )
            carried = {name: getattr(done.results, name) for name in carried}
    vars(done).update(carried)
    return done


def run_backward(dz, samples, W, form, gain, active, threads=1, lay_out=in_one_block):
    """gain W^T dz where the neuron below was active; the kernel's arrays."""
    O, I = W.shape
    weights = stored(W, form)
    return run(
        backward.backward,
        "scratch out",
        lay_out,
        dz=dz,
        samples=samples,
        weights=weights,
        columns=I,
        gain=gain,
        active=active,
        scratch=Blank(*backward.scratch_shape(weights.dtype, O, I, threads)),
        out=Blank((I, dz.shape[1]), "float32"),
    )


def run_update(
    inputs,
    samples,
    source,
    W,
    rect,
    moments,
    weights,
    bias,
    bias_moments,
    optimizer,
    first_row=0,
    t=1,
    lr=0.01,
    decay=0.0,
    limit=1.0,
    still=(0, 0, 0, 0),
    train_bias=True,
    straight=True,
    threads=1,
    neurons=1,
    unit=2.0**30,
    first_column=0,
    first_published=0,
    units=(),
    draws=NO_DRAWS,
    lay_out=in_one_block,
):
    """One update of the rectangle ``rect`` = (first, last, low, high) of a layer.

    ``W`` and the ``moments`` (0, 1 or 2 of them) are (O, I), ``bias`` and ``bias_moments`` are (O,); ``source`` has a
    row for every neuron, of which the kernel gets those from ``first_row`` on, as it gets the inputs from
    ``first_column`` and what is published from ``first_published`` on. Moments that are codes may have ``units`` (O,
    blocks of a row of the rectangle), and ``draws`` from neuron 0 on. Returns the kernel's arguments, and W, moments,
    units, bias and bias moments whole again.
    """
    first, last, low, high = rect
    part = slice(first, last), slice(low, high)
    none = np.zeros(0, np.float32)
    code = NUMBERS[optimizer]
    step = Step(code, *step_sizes(optimizer, lr, t), np.float32(decay), np.float32(limit))
    done = run(
        update.update,
        RESIDENT + "published.weights biases.bias biases.moment1 biases.moment2 "
        "scratch.gradient scratch.dz scratch.listed abs_w",
        lay_out,
        inputs=held(inputs, first_column),
        samples=samples,
        source=from_row(source, first_row),
        part=Slice(*rect),
        resident=resident(W, moments, units, part),
        draws=from_block(draws, first),
        published=published_from(weights, first_published),
        still=still,
        step=step,
        bias_step=step,
        biases=Biases(bias, *[*(m[first:last] for m in bias_moments), none, none][:2]),
        train_bias=train_bias,
        straight=straight,
        unit=unit,
        abs_w=np.zeros(threads, np.int64),
        scratch=work_space(inputs, low, high, threads, neurons),
    )

    def put_back(whole, place, values):
        whole = whole.copy()
        whole[place] = values.reshape(whole[place].shape)
        return whole

    done.weights = weights.copy()
    done.weights[len(weights) - len(done.published.weights) :] = done.published.weights
    done.W, done.bias = put_back(W, part, done.resident.weight), done.biases.bias
    done.moments = [put_back(m, part, new) for m, new in zip(moments, done.resident[1:3])]
    done.units = [put_back(u, slice(first, last), new) for u, new in zip(units, done.resident[3:])]
    done.bias_moments = [put_back(m, slice(first, last), new) for m, new in zip(bias_moments, done.biases[1:])]
    return done


def run_update_in_parts(given, parts, lay_out=in_one_block):
    """The same from micro-batches that begin and end at ``parts``; its arguments as keywords of ``run_update``."""
    inputs, source, rect, threads = (given[name] for name in ("inputs", "source", "rect", "threads"))
    first, last, low, high = part = Slice(*rect)
    sums = {"sums": Blank((part.size,), "float32"), "bias_sums": Blank((last - first,), "float32")}
    for begin, end in zip(parts, parts[1:]):
        lists = [Blank((threads, end - begin), kind) for kind in ("float32", "int32")]
        done = run(
            update.add_gradient,
            "scratch.dz scratch.listed sums bias_sums",
            lay_out,
            values=inputs.operand[begin:end].copy(),
            samples=end - begin,
            part=part,
            source=Given(source.dz[:, begin:end].copy(), 0, source.factor),
            begun=begin > 0,
            threads=threads,
            scratch=Scratch(Blank((threads, 0), "float32"), *lists, Blank((0, 0), "uint32")),
            **sums,
        )
        sums = {name: getattr(done, name) for name in sums}
    none, rows = np.zeros(0, np.float32), slice(first, last)
    code = NUMBERS[given["optimizer"]]
    rates = step_sizes(given["optimizer"], given["lr"], given["t"])
    step = Step(code, *rates, np.float32(given["decay"]), np.float32(given["limit"]))
    return run(
        update.update_from,
        RESIDENT + "published.weights biases.bias biases.moment1 biases.moment2 abs_w",
        lay_out,
        **sums,
        scale=np.float32(inputs.gain * inputs.scale),
        offset=inputs.offset,
        part=part,
        resident=resident(given["W"], given["moments"], given.get("units", ()), (rows, slice(low, high))),
        draws=from_block(given.get("draws", NO_DRAWS), first),
        still=given["still"],
        published=Published(given["weights"], 0),
        biases=Biases(given["bias"], *[*(m[rows] for m in given["bias_moments"]), none, none][:2]),
        step=step,
        bias_step=step,
        train_bias=True,
        straight=given["straight"],
        unit=2.0**30,
        abs_w=np.zeros(threads, np.int64),
    )


def resident(W, moments, units, part):
    """Weights and moments of a part of a layer as the update takes them; ``units`` are those of its rows."""
    none = np.zeros(0, moments[0].dtype if moments else np.float32), np.zeros(0, np.uint8)
    moments = [*(m[part].ravel() for m in moments), none[0], none[0]][:2]
    return Resident(W[part].ravel(), *moments, *[*(u[part[0]].ravel() for u in units), none[1], none[1]][:2])


def from_block(draws, row):
    """Draws from a row on."""
    return draws._replace(index=draws.index + draws.stride * np.uint64(row))


def run_gradient(inputs, samples, source, W, rect, first_row=0, straight=True, lay_out=in_one_block):
    """The gradient of a rectangle of a layer: dW (rows, columns), db (rows,)."""
    first, last, low, high = rect
    done = run(
        gradient_kernels.slice_gradient,
        "scratch.gradient scratch.dz scratch.listed out bias_out",
        lay_out,
        inputs=held(inputs),
        samples=samples,
        source=from_row(source, first_row),
        part=Slice(*rect),
        weight=W[first:last, low:high].ravel(),
        straight=straight,
        scratch=work_space(inputs, low, high, 1),
        out=Blank(((last - first) * (high - low),), "float32"),
        bias_out=Blank((last - first,), "float32"),
    )
    assert done.written["out"].all() and done.written["bias_out"].all()
    return done.out.reshape(last - first, high - low), done.bias_out


def held(inputs, first=0):
    """A batch of inputs from column ``first`` on, as the update takes them."""
    scale = np.float32(inputs.gain * inputs.scale)
    if inputs.operand.dtype == np.uint64:
        values = turned(bits.unpack(inputs.operand, inputs.X.shape[1])[:, first:])
    else:
        values = np.ascontiguousarray(inputs.operand[:, first:])
    return operands.Inputs(values, scale, inputs.offset, first)


def published_from(weights, first):
    """What the forward pass reads, from neuron ``first`` on, of signs a multiple of 8."""
    rows = first // 8 if weights.dtype == np.uint64 else first
    return Published(weights[rows:].copy(), first)


def from_row(source, first):
    """Errors of a layer from neuron ``first`` on."""
    names = ("active", "projection") if isinstance(source, Projected) else ("dz",)
    return source._replace(**{name: getattr(source, name)[first:] for name in names}, first=first)


def work_space(inputs, low, high, threads, neurons=1):
    """What the update of columns ``low`` to ``high`` computes in, by thread, with lists for so many neurons."""
    packed, batch = inputs.operand.dtype == np.uint64, len(inputs.operand)
    dz = gradient_kernels.table_width(batch) if packed else gradient_kernels.list_width(batch, neurons)
    gradient, turned = (
        Blank((threads, gradient_kernels.run_width(high - low, packed)), "float32"),
        Blank((0, 0), "uint32"),
    )
    lists = Blank((threads, dz), "float32"), Blank((threads, 0 if packed else dz), "int32")
    return Scratch(gradient, *lists, turned)


def on_threads(kernel, may_write, threads, per_thread=(), lay_out=in_one_block, **arguments):
    """What a kernel leaves: the same bits on one thread as on many. ``per_thread`` are those with a row each."""

    def on(number):
        own = {
            name: Blank((number, *value.shape[1:]), value.dtype)
            for name, value in arguments.items()
            if name in per_thread
        }
        alone = {} if per_thread else {"threads": number}
        return run(kernel, may_write, lay_out, **{**arguments, **own, **alone})

    done, alone = on(threads), on(1)
    for name in set(may_write.split()) - set(per_thread) - {"partial"}:
        parts = name.split(".")
        ours, theirs = (
            getattr(getattr(one, parts[0]), parts[1]) if parts[1:] else getattr(one, name) for one in (done, alone)
        )
        assert same_bits(ours, theirs)
    return done


def only_samples(done, name, samples):
    written = done.written[name].reshape(len(done.written[name]), -1)
    assert (written.T == (np.arange(len(written)) < samples)).all()
