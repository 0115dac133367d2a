"""One epoch of each layer of fc:2000x4 on MNIST: the package against the published algorithm in PyTorch.

    python benchmarks/epoch.py [--json] [--batches N] [--rounds N]

M = 2, batch 100, Adam, two threads on both sides, in turns. An epoch has 600 batches; ``--batches`` of them are run
and scaled up on both sides, what the package does once an epoch (exchange, commit) counted once; 600 runs it whole.
Needs the extra ``bench`` (PyTorch) and MNIST; without PyTorch only the package is measured, without MNIST random bytes
stand in.

Like is compared with like first: both sides train the published (frozen) schedule, all but one slice of a layer in each
step. "As published" does what the authors' script does to every batch, operation for operation, but has the samples
ready in memory and leaves out the lower layers' unused logits; "leaner" is the same mathematics with fewer passes over
memory; "fused Adam" is PyTorch's fused optimizer; with "outputs kept" the frozen layers' outputs, too, are ready in
memory. The rows below are the package's own schedules, which the published script does not have: ``slice`` trains one
slice in each step, a quarter of the weights, and ``stream`` all of them, one after another.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np
from measure import arguments, finish, machine, synthetic, table, trained

from tinyfoa_np import data
from tinyfoa_np.data import Dataset
from tinyfoa_np.errors import TinyFoAError
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.run.events import Event

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

WIDTH, LAYERS, SLICES, BATCH, LR = 2000, 4, 2, 100, 1e-4
EPOCH = 600  # batches
THREADS = 2
SCHEDULES = ("frozen", "slice", "stream")
#: PyTorch's contestants: fewer passes over memory, fused Adam, outputs of frozen layers kept
CONTESTANTS = {
    "PyTorch, as published": (False, False, False),
    "PyTorch, leaner": (True, False, False),
    "PyTorch, leaner, fused Adam": (True, True, False),
    "PyTorch, leaner, fused, outputs kept": (True, True, True),
}


# -- the package -------------------------------------------------------------------------------------------------------


def ours(schedule: str, dataset: Dataset, batches: int) -> list[float]:
    """Seconds of an epoch of each layer: the second epoch, without the test error that the package finds after it."""
    seconds = []
    begin = first = 0.0

    def note(event: Event) -> None:
        nonlocal begin, first
        now = time.perf_counter()
        if event.kind == "epoch":
            begin = now  # of the first epoch: what follows is its commit
        elif event.kind == "batch" and event.epoch == 1 and event.batch == 0:
            first = now
        elif event.kind == "batch" and event.epoch == 1 and event.batch == batches - 1:
            a_step = (now - first) / (batches - 1)
            seconds.append(first - begin + a_step * (EPOCH - 1))

    recipe = Recipe(
        dataset=dataset.name,
        network=f"fc:{WIDTH}x{LAYERS}",
        slices=SLICES,
        schedule=schedule,
        epochs=2,
        batch=BATCH,
        lr=LR,
        limit=batches * BATCH,
    )
    trained(recipe, dataset, THREADS, note)
    return seconds


# -- the published algorithm -------------------------------------------------------------------------------------------

if torch is not None:

    class Binarized(torch.autograd.Function):
        """mean |x| sign(x), by the operations of the published script; the gradient of the identity where |x| < 1."""

        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x)
            scale = x.abs().mean()
            return x.clone().div(scale).sign().mul(scale)

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
            (x,) = ctx.saved_tensors
            gradient = gradients[0].clone()
            gradient[x >= 1] = 0
            gradient[x <= -1] = 0
            return gradient

    class Lean(torch.autograd.Function):
        """The same with fewer passes over memory."""

        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x)
            return x.sign() * x.abs().mean()

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
            (x,) = ctx.saved_tensors
            return gradients[0] * (x.abs() < 1)

    class TorchLayer(torch.nn.Module):
        """W, b uniform in +-1/sqrt(I); a fixed projection P (C, O) ~ N(0, 2/O)."""

        projection: torch.Tensor

        def __init__(self, inputs: int, outputs: int, classes: int, lean: bool) -> None:
            super().__init__()
            bound = 1 / math.sqrt(inputs)
            self.weight = torch.nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))
            self.bias = torch.nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))
            self.register_buffer("projection", torch.randn(classes, outputs) * math.sqrt(2 / outputs))
            self.binarized = Lean.apply if lean else Binarized.apply
            self.lean, self.kept = lean, None

        def freeze(self) -> None:
            """Trains no more; the lean variant keeps its binarized weights from now on."""
            self.requires_grad_(False)
            self.kept = self.binarized(self.weight) if self.lean else None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            weight = self.binarized(self.weight) if self.kept is None else self.kept
            return torch.relu(self.binarized(torch.nn.functional.linear(x, weight, self.bias)))

    class TorchNet:
        """The layers so far; the last one trains, each step: all but diagonal slice q of its weights."""

        def __init__(self, inputs: int, classes: int, lean: bool, fused: bool, kept: bool) -> None:
            self.inputs, self.classes, self.lean, self.fused, self.kept = inputs, classes, lean, fused, kept
            self.layers: list[TorchLayer] = []

        def grow(self) -> None:
            """Freezes what there is and puts a new layer on top."""
            for layer in self.layers:
                layer.freeze()
            width = WIDTH if self.layers else self.inputs
            self.layers.append(TorchLayer(width, WIDTH, self.classes, self.lean))
            self.optimizer = torch.optim.Adam(self.layers[-1].parameters(), lr=LR, fused=self.fused)

        def step(self, x: torch.Tensor, labels: torch.Tensor, q: int) -> torch.Tensor:
            """One batch: forward through every layer, autograd, Adam over the whole layer, slice put back, clamp."""
            top = self.layers[-1]
            for layer in [top] if self.kept else self.layers:
                x = layer(x)
            loss = torch.nn.functional.cross_entropy(x @ top.projection.T, labels)
            self.optimizer.zero_grad()
            loss.backward()
            rows, columns = ([k * n // SLICES for k in (q, q + 1)] for n in top.weight.shape)
            with torch.no_grad():
                frozen = top.weight[slice(*rows), slice(*columns)].clone()
                self.optimizer.step()
                top.weight[slice(*rows), slice(*columns)] = frozen
                for layer in self.layers[-1:] if self.lean else self.layers:  # the published script clamps them all
                    for parameter in layer.parameters():
                        parameter.clamp_(-1, 1)
            return loss.detach()

    def in_torch(how: tuple[bool, bool, bool], dataset: Dataset, batches: int) -> list[float]:
        """Seconds of an epoch of each layer; the inputs are normalized beforehand and lie in memory, at no charge."""
        torch.set_num_threads(THREADS)
        torch.manual_seed(0)
        n = batches * BATCH
        x = torch.from_numpy(np.float32(dataset.scale) * dataset.train.inputs[:n] + np.float32(dataset.offset))
        labels = torch.from_numpy(dataset.train.labels[:n].astype(np.int64))
        net = TorchNet(x.shape[1], dataset.classes, *how)
        seconds = []
        for _ in range(LAYERS):
            net.grow()
            net.step(x[:BATCH], labels[:BATCH], 1)
            begin = time.perf_counter()
            for k in range(batches):
                part = slice(k * BATCH, (k + 1) * BATCH)
                net.step(x[part], labels[part], 1)
            seconds.append((time.perf_counter() - begin) * EPOCH / batches)
            if net.kept:
                with torch.no_grad():
                    x = torch.cat([net.layers[-1](part) for part in x.split(BATCH)])
        return seconds


# -- side by side ------------------------------------------------------------------------------------------------------


def mnist() -> Dataset:
    """MNIST, or bytes of its shape that do the same work."""
    try:
        return data.load("mnist")
    except TinyFoAError as error:
        print(f"random bytes in place of MNIST: {error}\n")
        return synthetic(EPOCH * BATCH, 10000)


def main() -> None:
    options: Any = arguments(
        __doc__, batches=(60, "batches of the 600 of an epoch that are run"), rounds=(2, "turns of each side")
    )
    batches = min(max(2, options.batches), EPOCH)
    print(f"{machine()}, PyTorch {torch.__version__ if torch is not None else 'not installed'}")
    dataset = mnist()
    print(
        f"fc:{WIDTH}x{LAYERS}, {dataset.name}, M = {SLICES}, batch {BATCH}, Adam, {THREADS} threads; seconds an epoch"
        + ("" if batches == EPOCH else f", scaled up from {batches} of its {EPOCH} batches")
    )
    sides: dict[str, Callable[[], list[float]]] = {
        f"ours, {schedule}": partial(ours, schedule, dataset, batches) for schedule in SCHEDULES
    }
    if torch is not None:
        like = {name: partial(in_torch, how, dataset, batches) for name, how in CONTESTANTS.items()}
        sides = {**like, **sides}
    ours("slice", dataset, 2)  # loads or compiles the kernels
    turns = [{name: side() for name, side in sides.items()} for _ in range(max(1, options.rounds))]
    layers = {name: [statistics.median(column) for column in zip(*(turn[name] for turn in turns))] for name in sides}
    total = {name: sum(seconds) for name, seconds in layers.items()}
    table(
        ["", *(f"layer {k + 1}" for k in range(LAYERS)), "sum", "/ ours, frozen", "/ ours, slice"],
        [
            [
                name,
                *(f"{s:.2f}" for s in [*seconds, total[name]]),
                *(f"{total[name] / total[f'ours, {schedule}']:.1f}" for schedule in ("frozen", "slice")),
            ]
            for name, seconds in layers.items()
        ],
    )
    print("ours, slice and ours, stream train other slices in a step than the published schedule: see --help\n")
    if torch is None:
        print('PyTorch is not installed: pip install "tinyfoa-np[bench]" would let this script compare\n')
    published = total.get("PyTorch, as published")
    leanest = min((total[name] for name in CONTESTANTS if name in total), default=None)
    frozen = total["ours, frozen"]
    result: dict[str, Any] = {
        "frozen_speedup_vs_pytorch": published / frozen if published else None,
        "frozen_speedup_vs_leanest_pytorch": leanest / frozen if leanest else None,
        "speedup_vs_pytorch": published / total["ours, slice"] if published else None,
        "seconds": total,
        "batches_run": batches,
        "data": dataset.name,
        "layers": layers,
    }
    finish(options.json, result)


if __name__ == "__main__":
    numba.set_num_threads(min(THREADS, numba.config.NUMBA_NUM_THREADS))
    main()
