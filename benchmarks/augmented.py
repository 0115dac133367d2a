"""An epoch of resnet8 by backpropagation on CIFAR-10 with augmentation, reading included: the package beside PyTorch.

    python benchmarks/augmented.py [--json] [--batches N] [--rounds N] [--threads N]

Ours is ``tinyfoa train cifar10 --network resnet8 --algorithm bp --batch 128 --augment flip,crop:4 --reshuffle`` as it
comes: samples are read from flash one by one in the epoch's random order, mirrored and cropped, and each turn ends with
a commit. PyTorch's images are one tensor of bytes in RAM, gathered by a random permutation (no ``DataLoader``),
mirrored and cropped by tensor operations and normalized, then autograd and ``torch.optim.Adam``, fused; in its own
layout, and with channels last. Its batch norms keep no running statistics, and ours need none in training. Neither
side looks at the test set, and nothing is compiled by PyTorch.

An epoch has 391 batches; ``--batches`` of them are a turn, the sides take turns, and the median turn is scaled up. A
turn of ours begins with the commit behind the turn before, which an epoch has once. CPU seconds are those of the whole
process, all threads together; the mean losses of the last turn are printed, as both sides started from equal weights.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import convolution  # sets the number of threads before NumPy, PyTorch and numba are imported
import numpy as np
from measure import arguments, finish, machine, table, trained

from tinyfoa_np import data
from tinyfoa_np.data import Dataset, Split
from tinyfoa_np.errors import TinyFoAError
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.run.events import Event

BATCH, SAMPLES, LR = 128, 50_000, 3e-3
EPOCH = -(-SAMPLES // BATCH)  # batches
OURS, THEIRS, LAST = "ours", "PyTorch", "PyTorch, channels last"


class Seconds(NamedTuple):
    """By the clock on the wall, and of the processor."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Seconds:
        return cls(time.perf_counter(), time.process_time())

    def since(self, begin: Seconds) -> Seconds:
        return Seconds(self.wall - begin.wall, self.cpu - begin.cpu)


class Enough(Exception):
    """All turns are over."""


def cifar10() -> Dataset:
    """CIFAR-10, a copy of it, or bytes of its shape that do the same work."""
    for name in ("cifar10", "cifar10-unverified"):
        try:
            return data.load(name)
        except TinyFoAError as error:
            missing = error
    print(f"random bytes in place of CIFAR-10: {missing}\n")
    rng = np.random.default_rng(0)
    train, test = (
        Split(rng.integers(0, 256, (n, 3072), np.uint8), rng.integers(0, 10, n, np.uint8)) for n in (SAMPLES, 100)
    )
    return Dataset("synthetic", train, test, 10, 1 / (255 * 0.25), -0.5 / 0.25, image=(3, 32, 32))


def in_torch(dataset: Dataset, last: bool) -> Callable[[int], tuple[Seconds, float]]:
    """A call that trains on as many batches; it returns the time and the mean loss."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        made, flash, _ = convolution.stage("resnet8", "bp", BATCH, Path(folder))
        with flash:
            forward, parameters = convolution.torch_network(made)
    for parameter in parameters if last else ():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(parameters, lr=LR, fused=True)
    images = torch.from_numpy(dataset.train.inputs).reshape(-1, 3, 32, 32)
    labels = torch.from_numpy(dataset.train.labels.astype(np.int64))
    scale, offset = dataset.affine("standard")

    def batches() -> Any:
        while True:
            yield from torch.randperm(len(images)).split(BATCH)

    order = batches()

    def turn(count: int) -> tuple[Seconds, float]:
        total, begin = 0.0, Seconds.now()
        for _ in range(count):
            rows = next(order)
            x = convolution.torch_augment(images[rows]).float() * scale + offset
            x = x.contiguous(memory_format=torch.channels_last) if last else x
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(forward(x), labels[rows])
            loss.backward()
            optimizer.step()
            total += float(loss.detach())
        return Seconds.now().since(begin), total / count

    return turn


def main() -> None:
    options: Any = arguments(
        __doc__,
        batches=(20, "batches of the 391 of an epoch that make a turn"),
        rounds=(3, "turns of each side"),
        threads=(1, "of both sides"),
    )
    batches, dataset = options.batches, cifar10()
    contestants = {THEIRS: in_torch(dataset, False), LAST: in_torch(dataset, True)}
    for turn in contestants.values():
        turn(2)
    turns: dict[str, list[Seconds]] = {name: [] for name in (OURS, *contestants)}
    losses: dict[str, float] = {}
    begin, sums, warm = Seconds.now(), [0.0], False

    def note(event: Event) -> None:
        """After each turn of our training, those of the others; the first one of ours is for warming up."""
        nonlocal begin, warm
        if event.kind != "batch":
            return
        sums.append((event.loss or 0.0) * (event.batch + 1))
        if len(sums) <= batches:
            return
        if warm:
            turns[OURS].append(Seconds.now().since(begin))
            losses[OURS] = (sums[-1] - sums[0]) / batches
            for name, turn in contestants.items():
                seconds, losses[name] = turn(batches)
                turns[name].append(seconds)
        if len(turns[OURS]) == options.rounds:
            raise Enough
        sums[:], warm, begin = sums[-1:], True, Seconds.now()

    recipe = Recipe(
        dataset=dataset.name,
        network="resnet8",
        algorithm="bp",
        epochs=80,
        batch=BATCH,
        lr=LR,
        lr_schedule="cosine",
        augment="flip,crop:4",
        shuffle=True,
        reshuffle=True,
    )
    try:
        trained(recipe, dataset, convolution.THREADS, note, commit_every=batches)
    except Enough:
        pass
    epoch = {
        name: Seconds(*(EPOCH / batches * statistics.median(column) for column in zip(*turns[name]))) for name in turns
    }
    print(f"{machine()}, {convolution.THREADS} threads; {batches} of {EPOCH} batches in {options.rounds} turns")
    ratios = {name: Seconds(*(mine / its for mine, its in zip(epoch[OURS], of))) for name, of in epoch.items()}
    table(
        ["an epoch on " + dataset.name, "seconds", "CPU seconds", "ours / it, seconds", "CPU", "loss of the last turn"],
        [
            [name, *(f"{x:.1f}" for x in of), *(f"{x:.2f}" for x in ratios[name]), f"{losses[name]:.3f}"]
            for name, of in epoch.items()
        ],
    )
    seconds, relative = ({name: of._asdict() for name, of in each.items()} for each in (epoch, ratios))
    finish(options.json, {"seconds": seconds, "ratios": relative, "loss": losses, "data": dataset.name})


if __name__ == "__main__":
    main()
