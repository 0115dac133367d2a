"""docs/rules.md: the closed forms of memory are those of the arena, as planned."""

import re
from itertools import pairwise
from math import prod
from pathlib import Path

import pytest

from tinyfoa_np import catalogue
from tinyfoa_np.architectures import architecture
from tinyfoa_np.data.dataset import shaped
from tinyfoa_np.kernels.optimizers import MOMENTS
from tinyfoa_np.layers.graph import Program
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.rules.fit import Layout

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "rules.md").read_text("utf-8")
B, C, IMAGE, PIXELS = 100, 10, (3, 32, 32), 784
FLAT, CHAIN, BARE = "fc:600,900,400", "conv:30,m2,50,f100", "conv:30k5,p2,60,60"


def table(title):
    """The rows below a heading: rule to its cells, each as the formula that it begins with."""
    part = re.split(r"^#+ ", TEXT.split(f"### {title}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in re.findall(r"^\|.*\|$", part, re.MULTILINE)]
    assert rows[0] == ["rule", "weights and moments", "inputs, outputs and errors", "beside"]
    return {name: cells for names, *cells in rows[2:] for name in names.split(", ")}


def value(cell, known):
    """The value of a formula such as ``4 (1 + m) N1 / M^2 + 4 N1 [M > 1]``; what follows it is words."""
    formula = re.split(r"[,;]| \(noise\)| for each", cell)[0].replace("[", "(").replace("]", ")").replace("^", "**")
    parts = re.findall(r"\*\*|\w+|\S", formula)
    written = ""
    for before, part in zip(["+", *parts], parts, strict=False):
        product = re.match(r"[\w)]", before) and re.match(r"[\w(]", part)
        written += f" * {part}" if product else f" {part}"
    return eval(written.strip(), {"__builtins__": {}}, known) if parts else 0


def planned(network, algorithm, image=None, **options):
    """The largest of a recipe's stages: the recipe, the layers of the network, the bytes of the arena."""
    fields = {"algorithm": algorithm, "network": network, "batch": B, "epochs": 20, **options}
    recipe = Recipe(binary_weights=False, binary_activations=False, **fields).validated()
    inputs = prod(image) if image else PIXELS
    layout = Layout(recipe, shaped("made", 10_000, 100, inputs, "uint8", C, image=image), 1)
    return recipe, max(chosen.plan.nbytes for chosen in layout.fit(None))


def close(cells, known, nbytes):
    total = sum(value(cell, known) for cell in cells)
    if "output of the last layer" in cells[2]:
        total += (known["last"] - 1) * value(cells[2], known)
    assert 0.99 < nbytes / total < 1.1, f"the arena has {nbytes:,} bytes, the closed form {total:,.0f}"


FULLY_CONNECTED = table("Fully connected")
CONVOLUTIONS = table("Through convolutions")


@pytest.mark.parametrize(
    "algorithm, slices",
    [(rule, slices) for rule in FULLY_CONNECTED for slices in ((1, 4) if catalogue.find(rule).by_layer else (1,))],
)
def test_fully_connected(algorithm, slices):
    rule = catalogue.find(algorithm)
    recipe, nbytes = planned(FLAT, algorithm, **({"slices": slices} if rule.by_layer else {}))
    sides = [PIXELS, *map(int, FLAT[3:].split(","))]
    pairs = list(pairwise(sides))
    classifier = C * sides[-1] if rule.answers in ("logits", "targets") else 0
    known = {"B": B, "C": C, "I": PIXELS, "M": slices, "m": MOMENTS[recipe.optimizer], "last": sides[-1]}
    known |= {"N": sum(map(prod, pairs)) + classifier, "N0": prod(pairs[0]), "N1": max(map(prod, pairs))}
    known |= {"H": sum(sides[1:]), "O1": max(sides[1:]), "O2": max(pairs, key=prod)[1]}
    known |= {f"L{k}": max(inputs + k * outputs for inputs, outputs in pairs) for k in (2, 3)}
    close(FULLY_CONNECTED[algorithm], known, nbytes)


def operations(network, head):
    """The network's program, and of each operation whether it has weights, its inputs and outputs of one sample."""
    found = architecture(network, prod(IMAGE), IMAGE, C)
    program = Program([layer for unit in found.units for layer in unit] + list(found.head if head else ()), found.shape)
    sizes = [prod(shape) for shape in program.shapes]
    return program, [(bool(one.weight), sizes[one.source], sizes[one.target]) for one in program.operations]


@pytest.mark.parametrize(
    "network, algorithm",
    [
        *((CHAIN, rule) for rule in CONVOLUTIONS if rule not in ("deeperforward", "cwcomp")),
        *((BARE, rule) for rule in CONVOLUTIONS),
    ],
)
def test_through_convolutions(network, algorithm):
    recipe, nbytes = planned(network, algorithm, IMAGE)
    head = recipe.rule.answers in ("logits", "targets")
    program, ops = operations(network, head)
    weights = [prod(one.weight) for one in program.operations if one.weight]
    layers = [(k, inputs, outputs) for k, (own, inputs, outputs) in enumerate(ops) if own]
    held = [ops[0][1] + sum(outputs for *_, outputs in ops[: k + 1]) for k in range(len(ops))]
    sides = [inputs if k else 0 for k, (_, inputs, _) in enumerate(ops)]
    hidden = layers[:-1] if head else layers
    left = [ops[k + 1][2] if k + 1 < len(ops) and not ops[k + 1][0] else 0 for k, *_ in hidden]
    known = {"B": B, "C": C, "m": MOMENTS[recipe.optimizer], "N": sum(weights), "N0": weights[0]}
    known |= {"K": max(h + below + op[2] for h, below, op in zip(held, sides, ops, strict=True))}
    known |= {"K1": max(h + op[2] for h, op in zip(held, ops, strict=True) if op[0])}
    known |= {f"L{k}": max(inputs + k * outputs for _, inputs, outputs in layers) for k in (2, 3)}
    known |= {
        "P2": max(inputs + 2 * outputs + 2 * pooled for (_, inputs, outputs), pooled in zip(hidden, left, strict=True))
    }
    known |= {"F": sum(outputs for *_, outputs in hidden)}
    known |= {"Q": sum(pooled or outputs for (*_, outputs), pooled in zip(hidden, left, strict=True)), "last": 0}
    channels = [program.shapes[program.operations[k].target][2] for k, *_ in hidden]
    known |= {"V": sum(channels), "O1": max(channels)}
    if algorithm == "cwcomp":
        known["last"] = hidden[-1][2] // 4  # after its own pooling
    close(CONVOLUTIONS[algorithm], known, nbytes)


def test_every_rule_has_its_row():
    every = list(catalogue._OWN)
    assert set(FULLY_CONNECTED) == {entry.name for entry in every}
    through = {e.name for e in every if "graph" in e.homes and "conv" in e.graphs}
    assert set(CONVOLUTIONS) == through
