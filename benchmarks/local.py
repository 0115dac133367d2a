"""One epoch of each layer of lc:16,32,64,64 on MNIST: the package against locally connected layers in PyTorch.

    python benchmarks/local.py [--json] [--batches N] [--torch-batches N] [--layers N]

M = 2, batch 100, Adam, two threads on both sides. An epoch has 600 batches; some are run and scaled up. Each side and
layer has a process of its own, whose peak memory is read at its end. Needs the extra ``bench`` (PyTorch) and MNIST;
without PyTorch only the package is measured, without MNIST random bytes stand in.

"Unfold and multiply" is how the authors' script computes such a layer: the patches of all positions, times the weights,
broadcast over the batch, then summed; a training step of that layer alone, on inputs that are ready in memory (the
script itself passes every batch through the layers below, too). It writes a product of 100 x O x I x 784 x 9 numbers:
layer 4 takes 12 GB for it, and as much again on the way back. Where the machine has not as much free, a batch goes
through in parts, whose gradients add up to one step; the RAM in the table is then that of a part. "Matrix products" is
the same mathematics as a product of matrices at each position. Both train the channels of one group, and leave out the
clamp. A second table has an epoch of backpropagation through all layers, by the package.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import resource
import sys
import time
from dataclasses import replace
from itertools import product
from typing import Any

import numba
from measure import arguments, finish, machine, synthetic, table, trained

from tinyfoa_np import data
from tinyfoa_np.data import Dataset, Split
from tinyfoa_np.errors import TinyFoAError
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.run.events import Event

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

CHANNELS, SIDE, SLICES, BATCH, LR, CLASSES = (1, 16, 32, 64, 64), 28, 2, 100, 1e-4, 10
EPOCH = 600  # batches
THREADS = 2
WAYS = ("unfold and multiply", "matrix products")
#: backpropagation's recipes
BACK: dict[str, dict[str, Any]] = {"binary": {}, "real": {"binary_weights": False, "binary_activations": False}}
PARTS = (100, 50, 25, 20, 10, 5)  # samples


def part(way: str, k: int) -> int:
    """How many of a batch's samples PyTorch takes at a time in layer k: their products fit into what is free, twice."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    a_sample = 4 * CHANNELS[k] * CHANNELS[k + 1] * SIDE * SIDE * 9 if way == WAYS[0] else 0
    return next((n for n in PARTS if 2.5 * n * a_sample <= 0.8 * free), PARTS[-1])


def mnist(batches: int) -> Dataset:
    """The first batches of MNIST with few test samples, or bytes of its shape that do the same work."""
    try:
        whole = data.load("mnist")
    except TinyFoAError as error:
        print(f"random bytes in place of MNIST: {error}\n", file=sys.stderr)
        whole = replace(synthetic(batches * BATCH, BATCH), image=(1, SIDE, SIDE))
    return replace(whole, test=Split(whole.test.inputs[:BATCH], whole.test.labels[:BATCH]))


def ours(batches: int, layers: int, connect: str, back: dict[str, Any] | None = None) -> dict[str, Any]:
    """Seconds of an epoch of each layer, without the test error after it, and the arena's bytes.

    With ``back``, fields of its recipe, of backpropagation: of the whole network.
    """
    numba.set_num_threads(min(THREADS, numba.config.NUMBA_NUM_THREADS))
    seconds: list[float] = []
    begin = first = 0.0

    def note(event: Event) -> None:
        nonlocal begin, first
        now = time.perf_counter()
        if event.kind == "epoch":
            begin = now  # of the first epoch: what follows is its commit, and the next slice
        elif event.kind == "batch" and event.epoch == 1 and event.batch == 0:
            first = now
        elif event.kind == "batch" and event.epoch == 1 and event.batch == batches - 1:
            seconds.append(first - begin + (now - first) / (batches - 1) * (EPOCH - 1))

    own: dict[str, Any] = {"slices": SLICES} if back is None else {"algorithm": "bp", **back}
    recipe = Recipe(
        dataset="mnist",
        network="lc:" + ",".join(map(str, CHANNELS[1 : layers + 1])),
        epochs=2,
        batch=BATCH,
        lr=LR,
        limit=batches * BATCH,
        lc_connect=connect,
        **own,
    )
    result = trained(recipe, mnist(batches), THREADS, note)
    return {"seconds": seconds, "arena": result["arena"]["watermark_bytes"]}


def in_torch(way: str, batches: int, k: int) -> dict[str, Any]:
    """Seconds of an epoch of layer k, from 0, and the growth of the process's peak memory."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    I, O, P, some = CHANNELS[k], CHANNELS[k + 1], SIDE * SIDE, part(way, k)
    x = torch.rand(some, I, SIDE, SIDE) if k == 0 else (torch.rand(some, I, SIDE, SIDE) < 0.5) * 0.7
    labels, trained_channels = torch.randint(CLASSES, (some,)), math.ceil(O / SLICES)
    own = torch.randn(trained_channels, I, P, 9).clamp_(-1, 1).requires_grad_()
    fixed = torch.randn(O - trained_channels, I, P, 9).clamp_(-1, 1)
    bias, norm = torch.randn(O, P).clamp_(-1, 1).requires_grad_(), torch.nn.BatchNorm1d(O)
    head = torch.nn.Linear(O * P, CLASSES).requires_grad_(False)
    optimizer = torch.optim.Adam([own, bias, *norm.parameters()], lr=LR)

    class Signs(torch.autograd.Function):
        """mean |w| sign(w), the gradient of the identity where |w| < 1."""

        @staticmethod
        def forward(ctx: Any, w: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(w)
            return w.sign() * w.abs().mean()

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
            return gradients[0] * (ctx.saved_tensors[0].abs() < 1)

    class Bits(torch.autograd.Function):
        """mean v [v > 0], the gradient of the identity where 0 < v < 1."""

        @staticmethod
        def forward(ctx: Any, v: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(v)
            return (v > 0) * v.relu().mean()

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
            (v,) = ctx.saved_tensors
            return gradients[0] * ((v > 0) & (v < 1))

    def backward() -> None:
        patches = torch.nn.functional.unfold(x, 3, padding=1).reshape(some, I, 9, P)
        w = Signs.apply(torch.cat([own, fixed]))  # (O, I, P, 9)
        if way == WAYS[0]:
            u = (patches.permute(0, 1, 3, 2).unsqueeze(1) * w).sum(dim=(2, 4))  # (B, O, I, P, 9) to (B, O, P)
        else:
            left = patches.permute(3, 0, 1, 2).reshape(P, some, I * 9)
            u = torch.bmm(left, w.permute(2, 1, 3, 0).reshape(P, I * 9, O)).permute(1, 2, 0)
        h = Bits.apply(norm(u + bias))
        torch.nn.functional.cross_entropy(head(h.reshape(some, -1)), labels).backward()

    def step() -> None:
        optimizer.zero_grad()
        for _ in range(BATCH // some):
            backward()
        optimizer.step()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step()
    begin = time.perf_counter()
    for _ in range(batches):
        step()
    seconds = (time.perf_counter() - begin) / batches * EPOCH
    peak = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return {"seconds": seconds, "part": some, "peak": peak}


def alone(work: Any, *arguments: Any) -> dict[str, Any]:
    """What ``work`` returns, done in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def main() -> None:
    options: Any = arguments(
        __doc__,
        batches=(6, "batches of the 600 of an epoch that are run"),
        torch_batches=(1, "batches that PyTorch runs, after one that is not timed"),
        layers=(4, "layers, from the first"),
    )
    layers = min(max(1, options.layers), len(CHANNELS) - 1)
    print(f"{machine()}, PyTorch {torch.__version__ if torch is not None else 'not installed'}")
    print(f"lc:16,32,64,64, M = {SLICES}, batch {BATCH}, Adam, {THREADS} threads; seconds an epoch of {EPOCH} batches")
    sides: dict[str, list[float]] = {}
    memory: dict[str, int] = {}
    parts: list[str] = []
    for connect in ("full", "depthwise"):
        found = alone(ours, max(2, options.batches), layers, connect)
        sides[f"ours, {connect}"], memory[f"ours, {connect}"] = found["seconds"], found["arena"]
    back: list[dict[str, Any]] = []
    for connect, (kind, fields) in product(("full", "depthwise"), BACK.items()):
        found = alone(ours, max(2, options.batches), layers, connect, fields)
        back.append({"connect": connect, "kind": kind, "seconds": found["seconds"][0], "memory_bytes": found["arena"]})
    for way in WAYS if torch is not None else ():
        turns = [alone(in_torch, way, max(1, options.torch_batches), k) for k in range(layers)]
        sides[way], memory[way] = [turn["seconds"] for turn in turns], max(turn["peak"] for turn in turns)
        for k, turn in enumerate(turns):
            if turn["part"] < BATCH:
                parts.append(f"{way}, layer {k + 1}: {turn['part']} samples at a time")
    total = {name: sum(seconds) for name, seconds in sides.items()}
    table(
        ["", *(f"layer {k + 1}" for k in range(layers)), "sum", "this / ours, full", "RAM, MB"],
        [
            [
                name,
                *(f"{s:.1f}" for s in seconds),
                f"{total[name]:.1f}",
                f"{total[name] / total['ours, full']:.1f}",
                f"{memory[name] / 1e6:.1f}",
            ]
            for name, seconds in sides.items()
        ],
    )
    print("".join(f"{line}\n" for line in parts))
    print("Backpropagation through all layers, weights and activations binary or real:")
    table(
        ["", "an epoch", "this / ours, full", "RAM, MB"],
        [
            [
                f"{row['connect']}, {row['kind']}",
                f"{row['seconds']:.1f}",
                f"{row['seconds'] / total['ours, full']:.1f}",
                f"{row['memory_bytes'] / 1e6:.1f}",
            ]
            for row in back
        ],
    )
    if torch is None:
        print('PyTorch is not installed: pip install "tinyfoa-np[bench]" would let this script compare\n')
    finish(
        options.json,
        {
            "speedup_vs_unfold": total[WAYS[0]] / total["ours, full"] if torch is not None else None,
            "speedup_vs_matrix_products": total[WAYS[1]] / total["ours, full"] if torch is not None else None,
            "layers": sides,
            "memory_bytes": memory,
            "batches_run": options.batches,
            "parts": parts,
            "backpropagation": back,
        },
    )


if __name__ == "__main__":
    main()
