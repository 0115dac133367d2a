"""A training step of networks with convolutions beside PyTorch's: forward, backward, Adam, as many threads.

    python benchmarks/convolution.py [--json] [--rounds N] [--batch N] [--networks resnet8] [--threads N] [--augment]

Both sides start from the same weights and must come to the same loss before they are timed, and about the same in two
more steps, in which Adam makes much of rounding. PyTorch's is autograd on ``torch.nn.functional`` in its own layout,
with batches in memory and ``torch.optim.Adam``, fused. Ours is the stage that training drives, without the reading of
batches. Samples are bytes on both sides, and each step begins with their scaling to 0 to 1; with ``--augment``, half of
the images are first mirrored and all are cropped from their surroundings with four zeros on each side. Time is CPU time
with one thread, as in ``kernels.py``; with more, as the clock on the wall has it.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

THREADS = int(sys.argv[sys.argv.index("--threads") + 1]) if "--threads" in sys.argv[:-1] else 1
for _library in ("OPENBLAS", "OMP", "NUMBA"):  # read when NumPy, PyTorch and numba are first imported
    os.environ[f"{_library}_NUM_THREADS"] = str(THREADS)

# ruff: noqa: E402 - not before the lines above
import numpy as np
from measure import arguments, finish, machine, side_by_side, table

from tinyfoa_np.architectures import architecture
from tinyfoa_np.layers.encoding import Encoding
from tinyfoa_np.layers.graph import CONNECT, CONV, DEPTHWISE, NORM, POOL
from tinyfoa_np.layers.layer import whole
from tinyfoa_np.layers.tiling import Tiling
from tinyfoa_np.ram.arena import Arena
from tinyfoa_np.ram.packing import pack
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.rules import bp_graph as deep_bp
from tinyfoa_np.rules import giff
from tinyfoa_np.rules.augment import Augmenter
from tinyfoa_np.rules.group_stage import GroupStage
from tinyfoa_np.storage.flash import Flash

IMAGES = {
    "cnn": ((1, 28, 28), 10),
    "mlp": ((784, 1, 1), 10),
    "resnet8": ((3, 32, 32), 10),
    "mobilenetv1": ((3, 96, 96), 2),
    "dscnn": ((1, 49, 10), 12),
}
LR = 1e-3
EDGE = 4  # zeros on each side of an image that is cropped


def stage(network: str, algorithm: str, batch: int, folder: Path) -> tuple[GroupStage, Flash, Augmenter]:
    """A stage in an arena of its own, with its first batch, and what augments it."""
    image, classes = IMAGES[network]
    options: dict[str, Any] = {"batch": batch, "lr": LR, "epochs": 1, "augment": f"flip,crop:{EDGE}"}
    recipe = Recipe(algorithm=algorithm, network=network, **options).validated()
    inputs = Encoding("bytes", math.prod(image), 1 / 255, 0.0, image)
    kind = {"bp": deep_bp.Network, "giff": giff.Network}[algorithm]
    layers = architecture(network, inputs.width, image, classes)
    made = kind(recipe, inputs, layers, classes, 1000, THREADS, Tiling(batch))
    change = Augmenter(recipe, inputs, THREADS)
    plan = pack([*made.regions(), *change.regions(batch)])
    arena = Arena(plan.nbytes)
    arena.lay_out(plan)
    flash = Flash.create(folder / algorithm, "benchmark")
    made.open(arena)
    change.open(arena)
    made.create(flash)
    made.initialize(flash)
    made.restore(flash)
    rng = np.random.default_rng(0)
    arena.enter("load")
    made.ram.inputs[:] = rng.integers(0, 256, made.ram.inputs.shape)
    made.ram.labels[:] = rng.integers(0, classes, batch)
    return made, flash, change


def step(made: GroupStage, flash: Flash, change: Augmenter) -> Callable[[bool], float]:
    """A call that trains on the batch, augmented or as it is; it returns the mean loss."""
    held, epochs = made.ram.inputs.copy(), count()

    def once(augmented: bool) -> float:
        made.arena.enter("load")
        made.ram.inputs[:] = held  # their bytes are others' after the first operation
        if augmented:
            change(made.ram.inputs, made.B, next(epochs), 0)
        return made.train_step(flash, whole(made.B), 0).loss / made.B

    return once


def torch_augment(images: Any) -> Any:
    """A batch (B, C, R, S), half of it mirrored, each image cropped from its surroundings at a place of its own.

    Slices put together take a third of the time of indices for the whole batch.
    """
    import torch
    import torch.nn.functional as F

    B, _, R, S = images.shape
    images = torch.where((torch.rand(B) < 0.5)[:, None, None, None], images.flip(3), images)
    places = torch.randint(0, 2 * EDGE + 1, (B, 2)).tolist()
    around = F.pad(images, (EDGE,) * 4)
    return torch.stack([image[:, y : y + R, x : x + S] for image, (y, x) in zip(around, places)])


def torch_network(made: GroupStage) -> tuple[Callable[[Any], Any], list[Any]]:
    """The same network of backpropagation in PyTorch, from the same weights: images (B, C, R, S) to logits, and its
    parameters."""
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(THREADS)
    group = made.layers[0]
    program, flat = group.program, torch.from_numpy(group.ram.weights.copy())
    parameters: list[Any] = []
    own: list[tuple[Any, ...]] = []
    for one in program.operations:
        if not one.weight:
            own.append(())
            continue
        part = flat[one.at : one.at + math.prod(one.weight)].reshape(one.weight)
        bias = flat[one.at + part.numel() : one.at + one.size].clone().requires_grad_() if one.biased else None
        if one.kind == NORM:
            tensors = [part[0].clone(), part[1].clone()]
        elif one.kind == CONNECT:
            rows, columns, channels = program.shapes[one.source]
            if one.weight[0] == channels:
                weight = part.T[:, :, None, None]
            else:  # flattened: position by position here, channel by channel there
                weight = part.reshape(rows, columns, channels, -1).permute(3, 2, 0, 1).flatten(1)
            tensors = [weight.clone().contiguous()]
        else:
            tensors = [(part.permute(2, 0, 1)[:, None] if one.kind == DEPTHWISE else part.permute(3, 2, 0, 1)).clone()]
        tensors = [tensor.contiguous().requires_grad_() for tensor in tensors]
        own.append((*tensors, *([bias] if one.biased else [])))
        parameters += own[-1]

    def forward(images: Any) -> Any:
        values = {0: images}
        for one, tensors in zip(program.operations, own):
            h = values[one.source]
            if one.kind == POOL:
                h = F.avg_pool2d(h, one.window)
            elif one.kind == NORM:
                h = F.batch_norm(h, None, None, *tensors, training=True)
                h = h if one.shortcut is None else h + values[one.shortcut]
            elif one.kind == CONNECT and tensors[0].ndim == 2:
                h = F.linear(h.flatten(1), *tensors)
            elif one.kind == CONNECT:
                h = F.conv2d(h, *tensors)
            else:
                K, L = one.weight[:2]
                padding: Any = (1, 1)
                if (K, L) != (3, 3):
                    padding = ((K - 1) // 2, (L - 1) // 2) if K == L == 1 else 0
                    h = h if K == L == 1 else F.pad(h, ((L - 1) // 2, L // 2, (K - 1) // 2, K // 2))
                bias = tensors[1] if one.kind == CONV and one.biased else None
                groups = h.shape[1] if one.kind == DEPTHWISE else 1
                h = F.conv2d(h, tensors[0], bias, one.stride, padding, groups=groups)
            values[one.target] = F.relu(h) if one.relu else h
        return values[program.output].flatten(1)

    return forward, parameters


def torch_step(made: GroupStage) -> Callable[[bool], float]:
    """As :func:`step`, in PyTorch."""
    import torch
    import torch.nn.functional as F

    forward, parameters = torch_network(made)
    optimizer = torch.optim.Adam(parameters, lr=LR, fused=True)
    images = torch.from_numpy(made.ram.inputs.copy()).reshape(made.B, *made.inputs.image or ())
    labels = torch.from_numpy(made.ram.labels.astype(np.int64))

    def once(augmented: bool) -> float:
        optimizer.zero_grad()
        h = (torch_augment(images) if augmented else images).float() * (1 / 255)
        loss = F.cross_entropy(forward(h), labels)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return once


def main() -> None:
    options = arguments(
        __doc__,
        rounds=(15, "turns of each"),
        batch=(100, "samples"),
        networks=("resnet8,dscnn,mobilenetv1,cnn,mlp", "which, with commas between"),
        threads=(1, "of both sides"),
        augment=(False, "mirror and crop the images in each step"),
    )
    result: dict[str, Any] = {"machine": machine(), "batch": options.batch, "threads": THREADS}
    result["augmented"] = options.augment
    clock = time.process_time if THREADS == 1 else time.perf_counter
    rows = []
    for network in options.networks.split(","):
        with tempfile.TemporaryDirectory() as name:
            ours, flash, change = stage(network, "bp", options.batch, Path(name))
            local, below, other = stage(network, "giff", options.batch, Path(name))
            with flash, below:
                theirs, own, giffs = torch_step(ours), step(ours, flash, change), step(local, below, other)
                for number in range(3):
                    a, b = own(False), theirs(False)
                    if not math.isclose(a, b, rel_tol=2e-2 if number else 1e-5):
                        raise SystemExit(f"{network}: the losses of step {number + 1} are {a} and {b}")
                calls = {"bp": own, "pytorch": theirs, "giff": giffs}
                contestants = {name: partial(call, options.augment) for name, call in calls.items()}
                seconds = side_by_side(contestants, options.rounds, 0.2, clock)
        result[network] = {**seconds, "pytorch_over_bp": seconds["pytorch"] / seconds["bp"]}
        rows.append(
            [
                network,
                *(f"{1e3 * seconds[name]:.1f}" for name in contestants),
                f"{result[network]['pytorch_over_bp']:.2f}",
            ]
        )
    table(["network", "BP, ms", "PyTorch's BP, ms", "GIFF, ms", "PyTorch / BP"], rows)
    finish(options.json, result)


if __name__ == "__main__":
    main()
