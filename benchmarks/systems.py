"""One epoch of BP, DRTP, PEPITA and FF, which train all layers in each step: the package against PyTorch.

    python benchmarks/systems.py [--json] [--rows bp,ff+bw] [--batches N] [--rounds N] [--fused]

The paper's networks on MNIST's shapes, batch 100, two threads on both sides, in turns. An epoch has 600 batches;
``--batches`` of them are run in a turn and scaled up. Both sides start from the same weights and must agree on the loss
of their first steps before they are timed. Needs the extra ``bench`` (PyTorch); without it only the package is
measured, without MNIST random bytes stand in.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
from measure import arguments, finish, machine, synthetic, table

from tinyfoa_np import data
from tinyfoa_np.data import Dataset
from tinyfoa_np.errors import TinyFoAError
from tinyfoa_np.layers.encoding import Encoding
from tinyfoa_np.layers.layer import whole
from tinyfoa_np.layers.tiling import Tiling
from tinyfoa_np.network import layer_shapes
from tinyfoa_np.papers.presets import paper
from tinyfoa_np.papers.tinyfoa_tables import System
from tinyfoa_np.ram.arena import Arena
from tinyfoa_np.ram.packing import pack
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.rules.build import makers
from tinyfoa_np.rules.network_stage import NetworkStage
from tinyfoa_np.storage.flash import Flash
from tinyfoa_np.storage.records import Records

try:
    import torch
    from torch.nn import functional
except ImportError:
    torch = None  # type: ignore[assignment]

BATCH = 100
EPOCH = 600  # batches
THREADS = 2
#: the paper's rows, and activations alone where that is something of its own: DRTP and FF have them only with weights
ROWS = (
    "bp",
    "bp+bw",
    "bp+bw+ba",
    "bp+ba",
    "drtp",
    "drtp+bw",
    "drtp+bw+ba",
    "pepita",
    "pepita+bw",
    "pepita+bw+ba",
    "pepita+ba",
    "ff",
    "ff+bw",
    "ff+bw+ba",
)
PHASES = ("load", "forward", "gradient", "update")
#: steps in which both sides must agree, and how closely in their loss: where activations are bits, those of a z near 0
#: may fall either way
CHECKED, CLOSE, CLOSE_BITS = 3, 1e-5, 0.05


def recipe_of(row: str, dataset: Dataset) -> Recipe:
    """The published recipe of one of :data:`ROWS`."""
    system = System.of(row)
    toggles = {"binary_weights": system.binary_weights, "binary_activations": system.binary_activations}
    return Recipe(**paper(system.algorithm, dataset.name, **toggles)).validated()


# -- the package -------------------------------------------------------------------------------------------------------


class Start(NamedTuple):
    """What both sides start from."""

    weights: list[np.ndarray]  # (O, I) of each layer; for FF, without the classifier, which starts at 0
    biases: list[np.ndarray]  # (O,), or (0,) where there are none
    projections: list[np.ndarray]  # DRTP (O, C) of each hidden layer; PEPITA (I, C)


class Ours:
    """A network in training, driven as the training loop drives it, its phases clocked."""

    def __init__(self, stage: NetworkStage, flash: Flash, records: Records) -> None:
        self.stage, self.flash, self.records = stage, flash, records
        self.steps = 0
        self.spent: dict[str, float] = {}
        self.since = time.perf_counter()
        stage.arena.watch = self._lap

    def _lap(self, _: str = "") -> None:
        # the arena's phase is still the one that ends
        now = time.perf_counter()
        self.spent[self.stage.arena.phase] = self.spent.get(self.stage.arena.phase, 0.0) + now - self.since
        self.since = now

    def start(self) -> Start:
        """Weights, biases and projections, as they are now."""
        ram, recipe = self.stage.ram, self.stage.recipe
        count = len(self.stage.widths) if recipe.algorithm == "ff" else len(self.stage.layers)
        layers = self.stage.layers[:count]
        projections = []
        if recipe.algorithm == "drtp":
            projections = [getattr(ram, f"feedback{k}").copy() for k in range(len(self.stage.widths))]
        if recipe.algorithm == "pepita":
            projections = [ram.feedback.copy()]
        weights = [layer.ram.slice[: layer.O * layer.I].reshape(layer.O, layer.I).copy() for layer in layers]
        return Start(weights, [layer.ram.bias.copy() for layer in layers], projections)

    def step(self) -> float:
        """The next batch; its loss."""
        ram = self.stage.ram
        self.stage.arena.enter("load")
        samples = self.records.read(
            self.flash, self.steps % self.records.batches, ram.inputs, ram.labels, ram.input_scale
        )
        outcome = self.stage.train_step(self.flash, whole(samples), self.steps)
        if outcome.diverged:
            raise SystemExit(f"{self.stage.recipe.algorithm}: {outcome.diverged}")
        self.steps += 1
        return outcome.loss / samples

    def noise(self) -> list[np.ndarray]:
        """What the last step drew: PEPITA's dropout (B, O), 1 or 0, of each hidden layer; FF's wrong labels (B,)."""
        ram, widths = self.stage.ram, self.stage.widths
        if self.stage.recipe.algorithm == "ff":
            return [ram.wrong.astype(np.int64)]
        if self.stage.recipe.algorithm == "pepita":
            masks = [getattr(ram, f"mask{k}").view(np.uint8) for k in range(len(widths))]
            return [np.unpackbits(mask, axis=1, count=n, bitorder="little") for mask, n in zip(masks, widths)]
        return []

    def turn(self, batches: int) -> dict[str, float]:
        """Seconds a step takes in each phase, and those of an epoch's commit."""
        self.spent, self.since = dict.fromkeys(PHASES, 0.0), time.perf_counter()
        self.stage.arena.enter("load")
        for _ in range(batches):
            self.step()
        self._lap()
        took = {phase: self.spent[phase] / batches for phase in PHASES}
        begin = time.perf_counter()
        self.stage.flush(self.flash)
        self.stage.arena.enter("load")
        self.flash.commit({}, memoryview(self.stage.ram.commit))
        return {**took, "commit": time.perf_counter() - begin}


@contextmanager
def ours(recipe: Recipe, dataset: Dataset, batches: int) -> Iterator[Ours]:
    """A fresh network, its data and its weights in flash."""
    inputs = Encoding("bytes", dataset.train.inputs.shape[1], *dataset.affine(str(recipe.normalize)))
    shapes = layer_shapes(recipe.network, inputs.width)
    (make,) = makers(recipe, inputs, shapes, dataset.classes, EPOCH, THREADS)
    stage = make(Tiling(recipe.batch))
    assert isinstance(stage, NetworkStage)
    plan = pack(stage.regions())
    arena = Arena(plan.nbytes)
    arena.lay_out(plan)
    stage.open(arena)
    records = Records("train", batches * BATCH, BATCH, inputs.row_bytes)
    with tempfile.TemporaryDirectory() as directory, Flash.create(Path(directory) / "flash", "benchmark") as flash:
        flash.new("train", [records.nbytes], slots=1)
        for k in range(batches):
            part = slice(k * BATCH, (k + 1) * BATCH)
            labels = dataset.train.labels[part].astype(np.uint16)
            records.write(flash, k, np.ascontiguousarray(dataset.train.inputs[part]), labels, np.ones(1, np.float32))
        stage.create(flash)
        stage.initialize(flash)
        stage.restore(flash)
        yield Ours(stage, flash, records)


# -- PyTorch -----------------------------------------------------------------------------------------------------------

if torch is not None:

    class Signs(torch.autograd.Function):
        """mean |x| sign(x); the gradient of the identity where |x| < 1."""

        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x)
            return x.sign().mul_(x.abs().mean())

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
            (x,) = ctx.saved_tensors
            return gradients[0] * (x.abs() < 1)

    class Bits(torch.autograd.Function):
        """mean |x| where x > 0, else 0; the gradient of the ReLU, or the identity if ``through``, where |x| < 1."""

        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, through: bool) -> torch.Tensor:
            ctx.save_for_backward(x)
            ctx.through = through
            return (x > 0) * x.abs().mean()

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
            (x,) = ctx.saved_tensors
            passes = x.abs() < 1 if ctx.through else (x > 0) & (x < 1)
            return gradients[0] * passes, None

    class OpenReLU(torch.autograd.Function):
        """max(x, 0), with the gradient of the identity: FF's, as published."""

        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clamp(min=0)

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
            return gradients[0]

    class Linear(torch.nn.Module):
        """x Wb^T + b with Wb = mean |W| sign(W), or W."""

        def __init__(self, weight: np.ndarray, bias: np.ndarray, binary: bool) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.from_numpy(weight.copy()))
            self.bias = torch.nn.Parameter(torch.from_numpy(bias.copy())) if bias.size else None
            self.binary = binary

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.linear(x, Signs.apply(self.weight) if self.binary else self.weight, self.bias)

    class Net(ABC):
        """A network in PyTorch; ``step`` trains it on a batch and returns the loss."""

        tops = 1  # layers that are never binary

        def __init__(self, recipe: Recipe, classes: int, start: Start, fused: bool) -> None:
            self.recipe, self.classes = recipe, classes
            binary = [recipe.binary_weights] * (len(start.weights) - self.tops) + [False] * self.tops
            self.layers = [Linear(*layer) for layer in zip(start.weights, start.biases, binary)]
            self.fixed = [torch.from_numpy(projection.copy()) for projection in start.projections]
            self.options = {"fused": True} if fused else {}
            self.optimizer = self.optimizer_of([p for layer in self.layers for p in layer.parameters()])

        def optimizer_of(self, parameters: list) -> torch.optim.Optimizer:
            assert self.recipe.lr is not None
            return torch.optim.SGD(parameters, lr=self.recipe.lr, momentum=0.9, **self.options)

        def clamp(self) -> None:
            with torch.no_grad():
                for group in self.optimizer.param_groups:
                    for parameter in group["params"]:
                        parameter.clamp_(-1, 1)

        @abstractmethod
        def step(self, x: torch.Tensor, labels: torch.Tensor, noise: Sequence[torch.Tensor]) -> float:
            """Train on a batch; the loss."""

    class BP(Net):
        def optimizer_of(self, parameters: list) -> torch.optim.Optimizer:
            assert self.recipe.lr is not None
            return torch.optim.Adam(parameters, lr=self.recipe.lr, **self.options)

        def step(self, x: torch.Tensor, labels: torch.Tensor, noise: Sequence[torch.Tensor]) -> float:
            for layer in self.layers[:-1]:
                z = layer(x)
                x = Bits.apply(z, False) if self.recipe.binary_activations else torch.relu(z)
            loss = functional.cross_entropy(self.layers[-1](x), labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if self.recipe.binary_weights:
                self.clamp()
            return loss.item()

    class DRTP(Net):
        tops = 0

        def optimizer_of(self, parameters: list) -> torch.optim.Optimizer:
            assert self.recipe.lr is not None
            return torch.optim.SGD(parameters, lr=self.recipe.lr, momentum=0.9, nesterov=True, **self.options)

        def step(self, x: torch.Tensor, labels: torch.Tensor, noise: Sequence[torch.Tensor]) -> float:
            binary = self.recipe.binary_weights and self.recipe.binary_activations
            hidden = []
            for layer in self.layers:
                z = layer(x)
                q = Signs.apply(z) if binary else z
                hidden.append(torch.tanh(q))
                x = hidden[-1].detach()  # nothing flows down
            right = functional.one_hot(labels, self.classes).to(x.dtype)
            loss = functional.binary_cross_entropy(torch.sigmoid(q), right)
            self.optimizer.zero_grad()
            # a hidden layer's error is its label's row of the projection
            errors = [feedback.T[labels] for feedback in self.fixed]
            torch.autograd.backward([*hidden[:-1], loss], [*errors, torch.ones(())])
            self.optimizer.step()
            return loss.item()

    class PEPITA(Net):
        def draw(self) -> list[torch.Tensor]:
            assert self.recipe.dropout is not None
            kept = 1 - self.recipe.dropout
            return [torch.empty(BATCH, len(layer.weight)).bernoulli_(kept) for layer in self.layers[:-1]]

        def through(
            self, x: torch.Tensor, weights: list[torch.Tensor], masks: list[torch.Tensor]
        ) -> list[torch.Tensor]:
            """Encoding of each layer and, at the end, the probabilities."""
            h = [x]
            for weight, mask in zip(weights, masks):
                z = h[-1] @ weight.T
                z = (z > 0) * z.abs().mean() if self.recipe.binary_activations else z.relu_()
                h.append(z.mul_(mask))
            return [*h, torch.softmax(h[-1] @ weights[-1].T, dim=1)]

        @torch.no_grad()
        def step(self, x: torch.Tensor, labels: torch.Tensor, noise: Sequence[torch.Tensor]) -> float:
            assert self.recipe.dropout is not None
            masks = [mask / (1 - self.recipe.dropout) for mask in (noise or self.draw())]
            weights = [Signs.apply(layer.weight) if layer.binary else layer.weight for layer in self.layers]
            right = functional.one_hot(labels, self.classes).to(x.dtype)
            h = self.through(x, weights, masks)
            m = self.through(x + (h[-1] - right) @ self.fixed[0].T, weights, masks)
            loss = functional.mse_loss(h[-1], right)
            h[-1] = right
            for k, layer in enumerate(self.layers):
                last = k + 1 == len(self.layers)
                error = m[k + 1] - right if last else h[k + 1] - m[k + 1]
                layer.weight.grad = error.div_(len(x)).T @ m[k]
            self.optimizer.step()
            self.clamp()
            return loss.item()

    class FF(Net):
        tops = 0

        def optimizer_of(self, parameters: list) -> torch.optim.Optimizer:
            recipe, width = self.recipe, sum(len(layer.weight) for layer in self.layers)
            self.classifier = torch.nn.Parameter(torch.zeros(self.classes, width))
            self.means = [torch.full((len(layer.weight),), 0.5) for layer in self.layers]
            groups: list[dict[str, Any]] = [
                {"params": parameters, "lr": recipe.lr, "weight_decay": recipe.decay},
                {"params": [self.classifier], "lr": recipe.classifier_lr, "weight_decay": recipe.classifier_decay},
            ]
            return torch.optim.SGD(groups, momentum=0.9, **self.options)

        @staticmethod
        def normal(h: torch.Tensor) -> torch.Tensor:
            return h / (h.square().mean(dim=1, keepdim=True).sqrt() + 1e-8)

        def active(self, layer: Linear, x: torch.Tensor) -> torch.Tensor:
            z = layer(x)
            if self.recipe.binary_weights and self.recipe.binary_activations:
                return Bits.apply(z, True)
            return OpenReLU.apply(z)

        def embedded(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            x = x.clone()
            x[:, : self.classes] = self.recipe.label_scale * functional.one_hot(labels, self.classes)
            return x

        def step(self, x: torch.Tensor, labels: torch.Tensor, noise: Sequence[torch.Tensor]) -> float:
            assert self.recipe.peer is not None
            wrong = noise[0] if noise else (labels + torch.randint(1, self.classes, labels.shape)) % self.classes
            samples = len(x)
            h = self.normal(torch.cat([self.embedded(x, labels), self.embedded(x, wrong)]))
            right = torch.arange(2 * samples).lt(samples).to(h.dtype)
            total, peers = torch.zeros(()), torch.zeros(())
            for k, layer in enumerate(self.layers):
                h = self.active(layer, h)
                excess = h.square().sum(dim=1) - h.shape[1]
                total = total + functional.binary_cross_entropy_with_logits(excess, right)
                mean = 0.9 * self.means[k] + 0.1 * h[:samples].mean(dim=0)
                peers = peers + (mean - mean.mean()).square().mean()
                self.means[k] = mean.detach()
                h = self.normal(h.detach())
            with torch.no_grad():
                neutral = x.clone()
                neutral[:, : self.classes] = 1 / self.classes
                neutral, features = self.normal(neutral), []
                for layer in self.layers:
                    neutral = self.normal(self.active(layer, neutral))
                    features.append(neutral)
            classified = functional.cross_entropy(torch.cat(features, dim=1) @ self.classifier.T, labels)
            self.optimizer.zero_grad()
            (total + self.recipe.peer * peers + classified).backward()
            self.optimizer.step()
            self.clamp()
            return total.item()

    NETS: dict[str, type[Net]] = {"bp": BP, "drtp": DRTP, "pepita": PEPITA, "ff": FF}


class Theirs:
    """The same network in PyTorch; its inputs are normalized beforehand and lie in memory, at no charge."""

    def __init__(self, recipe: Recipe, dataset: Dataset, batches: int, start: Start, fused: bool) -> None:
        torch.set_num_threads(THREADS)
        torch.manual_seed(0)
        n, (scale, offset) = batches * BATCH, dataset.affine(str(recipe.normalize))
        self.x = torch.from_numpy(np.float32(scale) * dataset.train.inputs[:n] + np.float32(offset))
        self.labels = torch.from_numpy(dataset.train.labels[:n].astype(np.int64))
        self.net = NETS[recipe.algorithm](recipe, dataset.classes, start, fused)
        self.steps, self.batches = 0, batches

    def step(self, noise: Sequence[np.ndarray] = ()) -> float:
        """The next batch; its loss."""
        k = self.steps % self.batches
        self.steps += 1
        part = slice(k * BATCH, (k + 1) * BATCH)
        return self.net.step(self.x[part], self.labels[part], [torch.from_numpy(drawn) for drawn in noise])

    def turn(self, batches: int) -> float:
        """Seconds of a step."""
        begin = time.perf_counter()
        for _ in range(batches):
            self.step()
        return (time.perf_counter() - begin) / batches


# -- side by side ------------------------------------------------------------------------------------------------------


def agreed(mine: Ours, theirs: Theirs) -> None:
    """The first steps on both sides, with the same random draws: also a warm-up.

    Raises
    ------
    SystemExit
        If their losses differ.
    """
    close = CLOSE_BITS if mine.stage.binary else CLOSE
    for step in range(CHECKED):
        loss = mine.step()
        other = theirs.step(mine.noise())
        if not abs(loss - other) <= close * max(abs(loss), abs(other)):
            raise SystemExit(f"step {step + 1}: the loss is {loss:.6g} here and {other:.6g} in PyTorch")


def compared(row: str, dataset: Dataset, batches: int, rounds: int, fused: bool) -> dict[str, Any]:
    """Medians over the turns: seconds of an epoch on both sides, of a step's phases, of a commit; the arena's MB."""
    recipe = recipe_of(row, dataset)
    with ours(recipe, dataset, batches) as mine:
        if torch is not None:
            theirs = Theirs(recipe, dataset, batches, mine.start(), fused)
            agreed(mine, theirs)
        else:
            mine.turn(CHECKED)
        turns, others = [], []
        for _ in range(max(1, rounds)):
            turns.append(mine.turn(batches))
            if torch is not None:
                others.append(theirs.turn(batches))
        arena = mine.stage.arena.watermark() / 1e6
    phases = {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
    seconds = statistics.median(sum(turn[p] for p in PHASES) * EPOCH + turn["commit"] for turn in turns)
    pytorch = statistics.median(others) * EPOCH if others else None
    return {
        "speedup": pytorch / seconds if pytorch else None,
        "seconds": seconds,
        "pytorch_seconds": pytorch,
        "arena_mb": arena,
        "step_ms": {name: 1000 * phases[name] for name in PHASES},
        "commit_seconds": phases["commit"],
    }


def mnist() -> Dataset:
    """MNIST, or bytes of its shape that do the same work."""
    try:
        return data.load("mnist")
    except TinyFoAError as error:
        print(f"random bytes in place of MNIST: {error}\n")
        return synthetic(EPOCH * BATCH, 10000)


def main() -> None:
    options: Any = arguments(
        __doc__,
        rows=(",".join(ROWS), "which rows"),
        batches=(20, "batches of the 600 of an epoch that make a turn"),
        rounds=(3, "turns of each side"),
        fused=(False, "PyTorch's fused optimizers, which are not its default"),
    )
    rows, batches = options.rows.split(","), min(max(1, options.batches), EPOCH)
    if unknown := [row for row in rows if row not in ROWS]:
        raise SystemExit(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    print(f"{machine()}, PyTorch {torch.__version__ if torch is not None else 'not installed'}")
    dataset = mnist()
    print(
        f"the paper's networks, {dataset.name}, batch {BATCH}, {THREADS} threads; seconds an epoch, scaled up from"
        f" {batches} of its {EPOCH} batches; milliseconds a step in each phase, seconds of the epoch's commit"
    )
    results = {row: compared(row, dataset, batches, options.rounds, options.fused) for row in rows}

    def shown(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    table(
        ["", "ours", "PyTorch", "PyTorch / ours", *PHASES, "commit", "arena MB"],
        [
            [
                row,
                shown(of["seconds"], 2),
                shown(of["pytorch_seconds"], 2),
                shown(of["speedup"], 2),
                *(shown(of["step_ms"][phase], 2) for phase in PHASES),
                shown(of["commit_seconds"], 2),
                shown(of["arena_mb"], 1),
            ]
            for row, of in results.items()
        ],
    )
    if torch is None:
        print('PyTorch is not installed: pip install "tinyfoa-np[bench]" would let this script compare\n')
    finish(options.json, results)


if __name__ == "__main__":
    numba.set_num_threads(min(THREADS, numba.config.NUMBA_NUM_THREADS))
    main()
