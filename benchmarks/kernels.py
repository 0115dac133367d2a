"""Each kernel side by side with what it replaces: NumPy's matrix product, a kernel in C, the separate passes.

    python benchmarks/kernels.py [--json] [--rounds N] [--only gradient,first_layer]

Every figure is a ratio of medians measured in turns in one run, after a check that both sides computed the same; above
1 is in the package's favour. All but ``threads_2_vs_1`` run on one thread.
"""

from __future__ import annotations

import os

for _library in ("OPENBLAS", "MKL", "VECLIB_MAXIMUM"):  # read when NumPy is first imported
    os.environ[f"{_library}_{'THREADS' if 'MAX' in _library else 'NUM_THREADS'}"] = "1"

# ruff: noqa: E402, I001 - NumPy must not be imported before the lines above
import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from measure import aligned, arguments, finish, machine, packed, prepared_layer, si, side_by_side
from measure import synthetic, table, trained
from tinyfoa_np.layers.encoding import Encoding
from tinyfoa_np.layers.layer import whole
from tinyfoa_np.rules.tinyfoa import TILES, Layer, z_tile
from tinyfoa_np.kernels import dense_backward as backward_kernels
from tinyfoa_np.kernels import dense_forward as forward_kernels
from tinyfoa_np.kernels import dense_gradient as gradient_kernels
from tinyfoa_np.kernels.linking import Kernel
from tinyfoa_np.kernels.operands import Given
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reference import bits as reference_bits
from tinyfoa_np.run.events import Event

B, I, O = 100, 2000, 2000
PIXELS = 784
SLICE = 1000  # rows and columns of a slice: M = 2
Result = dict[str, float | None]


# -- the package's kernels, alone ------------------------------------------------------------------------------------


@njit(nogil=True, pipeline_class=Kernel)
def _product(inputs, weights, outputs, tile, columns, scale, offset, scratch, z):
    # inputs (B, W) uint64 | (B, I) uint8, weights (panels, W, 8) uint64, z (O, B): tile by tile, as forward goes
    for first in range(0, outputs, tile):
        neurons = min(tile, outputs - first)
        forward_kernels.linear(
            inputs,
            0,
            inputs.shape[0],
            weights,
            first,
            neurons,
            columns,
            scale,
            offset,
            scratch,
            0,
            z.reshape(z.size),
            first * z.shape[1],
            z.shape[1],
        )


def product(inputs: np.ndarray, weights: np.ndarray, kind: Encoding, z: np.ndarray) -> Callable[[], None]:
    """A call of the product that :func:`forward` contains: all samples by all neurons into z (O, B)."""
    shape, dtype = forward_kernels.scratch_shape(inputs.dtype, weights.dtype, len(inputs), weights.shape[1], 1)
    scratch = np.zeros(shape, dtype)
    tile = z_tile(TILES[0], kind, len(z), True)
    scale, offset = np.float32(kind.scale), np.float32(kind.offset)
    return lambda: _product(inputs, weights, len(z), tile, kind.width, scale, offset, scratch, z)


@njit(nogil=True, pipeline_class=Kernel)
def _gradient(turned, samples, columns, source, dz, listed, gradient):
    # turned (ceil(B / 32), I) uint32; source: Given; dz (1, table_width); gradient (O, I): each neuron's run of columns
    for row in range(source.dz.shape[0]):
        count, _ = gradient_kernels.row_errors(turned, source, row, samples, dz, listed, 0, 0, np.float32(0))
        gradient_kernels.gradient_run(turned, 0, columns, count, 0, 0, dz, listed, gradient[row : row + 1])


def slice_gradient(inputs: np.ndarray, columns: int, dz: np.ndarray) -> tuple[np.ndarray, Callable[[], None]]:
    """dz.T x (O, I), and a call that computes it as :func:`update` does: bits turned, tables of sums, look-ups."""
    samples, outputs = dz.shape
    turned = aligned(np.zeros(gradient_kernels.turned_shape(samples, columns), np.uint32))
    scratch = aligned(np.zeros((1, gradient_kernels.table_width(samples)), np.float32))
    source = Given(np.ascontiguousarray(dz.T), 0, np.zeros(0, np.float32))
    listed, gradient = np.zeros((1, 0), np.int32), aligned(np.zeros((outputs, columns), np.float32))

    def call() -> None:
        gradient_kernels.turn(inputs, samples, 0, columns, turned)
        _gradient(turned, samples, columns, source, scratch, listed, gradient)

    return gradient, call


def below(dz: np.ndarray, weights: np.ndarray, out: np.ndarray) -> Callable[[], None]:
    """A call of the kernel that turns dz (O, B) into W^T dz, here (I, B), every neuron below active."""
    (outputs, samples), inputs = dz.shape, len(out)
    scratch = aligned(np.zeros(*backward_kernels.scratch_shape(weights.dtype, outputs, inputs, 1)))
    active = np.full((inputs, -(-samples // 16)), 0xFFFF, np.uint16)
    operands = dz, samples, weights, inputs, np.float32(1), active, scratch, out
    return lambda: backward_kernels.backward(*operands)


# -- the yardsticks --------------------------------------------------------------------------------------------------


def blas() -> str:
    """The library behind NumPy's matrix product."""
    return str(np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"])


def xnor_in_c(directory: str) -> tuple[Callable[..., None] | None, str]:
    """xnor.c compiled for this machine, or None and why not."""
    info = Path("/proc/cpuinfo")
    if not info.exists() or "avx512_vpopcntdq" not in info.read_text():
        return None, "this processor has no AVX-512 VPOPCNTDQ"
    if shutil.which("gcc") is None:
        return None, "there is no gcc"
    source, library = Path(__file__).with_name("xnor.c"), Path(directory) / "xnor.so"
    command = ["gcc", "-O3", "-march=native", "-shared", "-fPIC", str(source), "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return None, f"gcc failed: {(done.stderr.splitlines() or ['no message'])[0]}"
    function = ctypes.CDLL(str(library)).xnor
    function.argtypes, function.restype = [ctypes.c_void_p] * 4 + [ctypes.c_long] * 3, None
    return function, ""


@njit(nogil=True, error_model="numpy")
def _adam(w, m, v, g, rate, root):
    # all flat (n,): the straight-through mask, Adam, the clamp; vectorized by LLVM
    one, zero = np.float32(1), np.float32(0)
    for k in range(w.size):
        slope = g[k] if abs(w[k]) < one else zero
        m[k] += (slope - m[k]) * np.float32(0.1)
        v[k] = v[k] * np.float32(0.999) + slope * slope * np.float32(0.001)
        w[k] = min(max(w[k] - rate * m[k] / (np.sqrt(v[k]) * root + np.float32(1e-8)), -one), one)


@intrinsic
def _sign_word(typing: Any, w: Any, first: Any) -> Any:
    """Bit i of the uint64 result: w[first + i] >= 0, for 64 float32 values in one vector comparison."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.FloatType(), 64)
        array = context.make_array(signature.args[0])(context, builder, args[0])
        values = builder.load(builder.bitcast(builder.gep(array.data, [args[1]]), vector.as_pointer()))
        values.align = 4
        return builder.bitcast(builder.fcmp_ordered(">=", values, ir.Constant(vector, None)), ir.IntType(64))

    return types.uint64(w, types.intp), codegen


@njit(nogil=True, error_model="numpy")
def _pack_signs(w, rows, columns, weights):
    # w flat (rows columns,), weights (panels, W, 8) uint64
    for row in range(rows):
        for k in range((columns + 63) // 64):
            few = min(64, columns - 64 * k)
            at = row * columns + 64 * k
            if few == 64:
                weights[row // 8, k, row % 8] = _sign_word(w, at)
            else:
                word = np.uint64(0)
                for i in range(few):
                    word |= np.uint64(w[at + i] >= 0) << np.uint64(i)
                weights[row // 8, k, row % 8] = word


@njit(nogil=True, error_model="numpy", fastmath={"reassoc"})
def _sum_abs(w):
    # in whatever order is fastest: the yardstick need not be reproducible
    total = np.float32(0)
    for k in range(w.size):
        total += abs(w[k])
    return total


# -- the figures -----------------------------------------------------------------------------------------------------


def show(title: str, seconds: dict[str, float], work: float, unit: str) -> None:
    """One table: a row per contestant, with its rate in units a second."""
    print(title)
    first = next(iter(seconds.values()))
    rows = [[name, f"{s * 1e6:,.1f}", si(work / s), f"{s / first:.2f}"] for name, s in seconds.items()]
    table(["", "microseconds", f"{unit}/s", "times the first"], rows)


def agree(a: np.ndarray, b: np.ndarray, tolerance: float, what: str) -> None:
    """Two sides that did not compute the same are not compared."""
    worst = float(np.abs(a - b).max() / np.abs(b).max())
    if not worst <= tolerance:
        raise SystemExit(f"{what}: the sides differ by {worst:.1e} of the largest value: at most {tolerance} is right")


def signs_of(layer: Layer) -> np.ndarray:
    """+-1 (O, I) float32 from the layer's packed signs."""
    words = np.ascontiguousarray(layer.parameters.ram.weights.transpose(0, 2, 1)).view(np.uint8)  # (panels, 8, 8 W)
    bits = np.unpackbits(words, axis=2, bitorder="little").reshape(-1, 64 * layer.parameters.ram.weights.shape[1])
    return 2 * bits[: layer.O, : layer.I].astype(np.float32) - 1


def binary_product(rounds: int) -> Result:
    """(B, I) bits by (O, I) signs: the product alone, and the whole forward pass around it."""
    kind = Encoding("bits", I)
    with prepared_layer(Recipe(batch=B), kind, O) as (layer, flash), tempfile.TemporaryDirectory() as directory:
        x, w, signs = layer.ram.inputs, layer.parameters.ram.weights, aligned(signs_of(layer))
        bits = aligned(np.unpackbits(x.view(np.uint8), axis=1, bitorder="little")[:, :I].astype(np.float32))
        z, z_c, z_blas = (aligned(np.zeros(shape, np.float32)) for shape in ((O, B), (O, B), (B, O)))
        counts = np.zeros(B, np.int32)
        contestants = {
            "ours": product(x, w, kind, z),
            "ours, whole forward": lambda: layer.forward(flash, whole(B), 0),
            f"{blas()}, float32": lambda: np.matmul(bits, signs.T, out=z_blas),
        }
        function, why = xnor_in_c(directory)
        if function:
            operands = [a.ctypes.data for a in (x, w, counts, z_c)]
            contestants["C, AVX-512"] = lambda: function(*operands, B, x.shape[1], len(w))
        seconds = side_by_side(contestants, rounds)
        agree(z, z_blas.T, 0, "binary product")
        if function:
            agree(z, z_c, 0, "binary product in C")
    show(f"binary product: bits ({B} x {I}) by signs ({O} x {I})", seconds, B * I * O, "bit multiply-adds")
    if why:
        print(f"  no kernel in C: {why}\n")
    ours = seconds["ours"]
    return {
        "xnor_vs_openblas": seconds[f"{blas()}, float32"] / ours,
        "xnor_vs_c": seconds["C, AVX-512"] / ours if function else None,
    }


def first_layer(rounds: int) -> Result:
    """(B, 784) pixel bytes by (O, 784) signs against the normalized floats."""
    kind = Encoding("bytes", PIXELS, 1 / (255 * 0.3081), -0.1307 / 0.3081)
    with prepared_layer(Recipe(batch=B), kind, O) as (layer, flash):
        x, w, signs = layer.ram.inputs, layer.parameters.ram.weights, aligned(signs_of(layer))
        floats = aligned(np.float32(kind.scale) * x.astype(np.float32) + np.float32(kind.offset))
        z, z_blas = aligned(np.zeros((O, B), np.float32)), aligned(np.zeros((B, O), np.float32))
        seconds = side_by_side(
            {
                "ours": product(x, w, kind, z),
                "ours, whole forward": lambda: layer.forward(flash, whole(B), 0),
                f"{blas()}, float32": lambda: np.matmul(floats, signs.T, out=z_blas),
            },
            rounds,
        )
        agree(z, z_blas.T, 1e-5, "first layer")
    show(f"first layer: bytes ({B} x {PIXELS}) by signs ({O} x {PIXELS})", seconds, B * PIXELS * O, "multiply-adds")
    return {"first_layer_vs_openblas": seconds[f"{blas()}, float32"] / seconds["ours"]}


def dense_forward(rounds: int) -> Result:
    """(B, I) floats by (O, I) floats, and by signs."""
    random = np.random.default_rng(3)
    x, w = (aligned(random.standard_normal((n, I), np.float32)) for n in (B, O))
    signs, signs_as_floats = aligned(reference_bits.pack_panels(w)), aligned(np.where(w >= 0, np.float32(1), -1))
    z, z_signs, z_blas = (aligned(np.zeros(shape, np.float32)) for shape in ((O, B), (O, B), (B, O)))
    seconds = side_by_side(
        {
            "ours": product(x, w, Encoding("real", I), z),
            "ours, by signs": product(x, signs, Encoding("real", I), z_signs),
            f"{blas()}, float32": lambda: np.matmul(x, w.T, out=z_blas),
        },
        rounds,
    )
    agree(z, z_blas.T, 1e-5, "dense product")
    agree(z_signs, (x @ signs_as_floats.T).T, 1e-5, "dense product by signs")
    show(f"dense product: floats ({B} x {I}) by floats ({O} x {I})", seconds, B * I * O, "multiply-adds")
    return {"dense_forward_vs_openblas": seconds[f"{blas()}, float32"] / seconds["ours"]}


def backward(rounds: int) -> Result:
    """W^T dz for a hidden layer, with float weights and with signs; then for the output layer."""
    random = np.random.default_rng(4)
    ratios = []
    for outputs in (O, 10):
        w, dz = (aligned(random.standard_normal((outputs, n), np.float32)) for n in (I, B))
        signs, signs_as_floats = aligned(reference_bits.pack_panels(w)), aligned(np.where(w >= 0, np.float32(1), -1))
        out, out_signs, out_blas = (aligned(np.zeros((I, B), np.float32)) for _ in range(3))
        seconds = side_by_side(
            {
                "ours": below(dz, w, out),
                "ours, signs": below(dz, signs, out_signs),
                f"{blas()}, float32": lambda w=w, dz=dz, out=out_blas: np.matmul(w.T, dz, out=out),
            },
            rounds,
        )
        agree(out, out_blas, 1e-5, "backward")
        agree(out_signs, signs_as_floats.T @ dz, 1e-5, "backward with signs")
        show(f"backward: floats ({outputs} x {I}) by dz ({outputs} x {B})", seconds, B * I * outputs, "multiply-adds")
        ratios.append(seconds[f"{blas()}, float32"] / seconds["ours"])
    return {"backward_vs_openblas": ratios[0]}


def gradient(rounds: int) -> Result:
    """dz.T x for dz (B, 1000) floats and x (B, 1000) bits, one slice of M = 2."""
    random = np.random.default_rng(2)
    bits = random.integers(0, 2, (B, SLICE), dtype=np.uint8)
    floats, dz = aligned(bits.astype(np.float32)), aligned(random.standard_normal((B, SLICE), np.float32))
    half = dz * random.integers(0, 2, dz.shape, dtype=np.int8)
    out, out_half = (aligned(np.zeros((SLICE, SLICE), np.float32)) for _ in range(2))
    x = aligned(packed(bits))
    dense, run_dense = slice_gradient(x, SLICE, dz)
    sparse, run_sparse = slice_gradient(x, SLICE, half)
    seconds = side_by_side(
        {
            "ours": run_dense,
            "ours, half of dz zero": run_sparse,
            f"{blas()}, float32": lambda: np.matmul(dz.T, floats, out=out),
        },
        rounds,
    )
    np.matmul(half.T, floats, out=out_half)
    agree(dense, out, 1e-5, "gradient")
    agree(sparse, out_half, 1e-5, "gradient of half the errors")
    show(f"slice gradient: dz ({B} x {SLICE}) floats by bits ({B} x {SLICE})", seconds, B * SLICE**2, "multiply-adds")
    return {"gradient_vs_openblas": seconds[f"{blas()}, float32"] / seconds["ours"]}


def fused(rounds: int) -> Result:
    """One optimizer step of a slice: the package's single pass against product, Adam, packing and mean one by one."""
    with prepared_layer(Recipe(batch=B, slices=2, hold="1"), Encoding("bits", I), O) as (layer, flash):
        layer.forward(flash, whole(B), 0)
        layer.gradient(B)
        ram, own = layer.ram, layer.parameters.ram
        active = np.unpackbits(np.array(ram.active).view(np.uint8), axis=1, bitorder="little")[:, :B]  # (1000, B)
        dz = aligned(((ram.projection[:SLICE] @ ram.error) * active).T)  # (B, 1000), at no charge
        bits = np.unpackbits(np.array(ram.inputs).view(np.uint8), axis=1, bitorder="little")[:, :SLICE]
        floats = aligned(bits.astype(np.float32) * ram.input_scale[0])
        apart = SimpleNamespace(
            w=aligned(own.slice),
            m=aligned(own.moment1),
            v=aligned(own.moment2),
            g=aligned(np.zeros((SLICE, SLICE), np.float32)),
            signs=aligned(np.zeros((SLICE // 8, -(-SLICE // 64), 8), np.uint64)),
            t=0,
            mean=0.0,
        )

        flat = apart.g.reshape(-1)

        def step_by_step() -> None:
            apart.t += 1
            np.matmul(dz.T, floats, out=apart.g)
            pace = layer.parameters._step(apart.t, 0)
            _adam(apart.w, apart.m, apart.v, flat, pace.rate, pace.root)
            _pack_signs(apart.w, SLICE, SLICE, apart.signs)
            apart.mean = _sum_abs(apart.w) / apart.w.size

        layer.update(flash, B, 0)
        step_by_step()
        agree(own.slice, apart.w, 1e-4, "fused update")  # Adam's step is large where a gradient is but rounding
        seconds = side_by_side({"ours": lambda: layer.update(flash, B, 0), "step by step": step_by_step}, rounds)
        pace = layer.parameters._step(apart.t, 0)
        parts = side_by_side(
            {
                "  of which gradient": lambda: np.matmul(dz.T, floats, out=apart.g),
                "  of which Adam, clamp": lambda: _adam(apart.w, apart.m, apart.v, flat, pace.rate, pace.root),
                "  of which signs": lambda: _pack_signs(apart.w, SLICE, SLICE, apart.signs),
                "  of which mean |W|": lambda: _sum_abs(apart.w),
            },
            max(3, rounds // 4),
        )
    show(
        f"update of a slice ({SLICE} x {SLICE}), batch {B}: gradient, Adam, clamp, packed signs, mean |W|",
        {**seconds, **parts},
        SLICE**2,
        "weights",
    )
    return {"fused_vs_separate": seconds["step by step"] / seconds["ours"]}


def two_threads(rounds: int) -> Result:
    """An epoch of a hidden layer on one thread and on two, test error included, through the training loop itself."""
    if (os.cpu_count() or 1) < 2 or numba.config.NUMBA_NUM_THREADS < 2:
        print("two threads: this machine has only one core\n")
        return {"threads_2_vs_1": None}
    dataset = synthetic(600 * B, 100 * B)  # as many as MNIST has: an epoch has one commit, however short it is
    digests = set()

    def epoch(threads: int) -> float:
        seconds: list[float] = []

        def note(event: Event) -> None:
            if event.kind == "epoch" and event.layer == 1 and event.seconds is not None:
                seconds.append(event.seconds)

        recipe = Recipe(dataset="synthetic", network=f"fc:{O}x2", epochs=1, batch=B)
        digests.add(trained(recipe, dataset, threads, note)["model_sha256"])
        return seconds[0]

    epoch(2)
    pairs = [(epoch(1), epoch(2)) for _ in range(max(3, rounds // 4))]
    if len(digests) != 1:
        raise SystemExit("two threads: one and two threads trained different models")
    one, two = (float(np.median(column)) for column in zip(*pairs))
    seconds = {"two threads": two, "one thread": one}
    show(f"epoch of a hidden layer ({O} x {I}), M = 2, {600 * B} samples", seconds, 600 * B, "samples")
    return {"threads_2_vs_1": one / two}


def main() -> None:
    figures = (binary_product, gradient, fused, first_layer, dense_forward, backward, two_threads)
    names = [figure.__name__ for figure in figures]
    options: Any = arguments(
        __doc__, rounds=(20, "turns of each contestant"), only=(",".join(names), "which are measured")
    )
    if unknown := set(options.only.split(",")) - set(names):
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    numba.set_num_threads(1)
    print(f"{machine()}, {blas()}\n")
    result: Result = {}
    for figure in figures:
        if figure.__name__ in options.only.split(","):
            result.update(figure(options.rounds))
    table(["above 1 is in our favour", ""], [[k, "-" if v is None else f"{v:.2f}"] for k, v in result.items()])
    finish(options.json, result)


if __name__ == "__main__":
    main()
