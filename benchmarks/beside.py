"""What would a device need for a training, the arena and what is allocated beside it? Prints docs/memory.md's table.

    python benchmarks/beside.py [--json]

Each training is audited, with one thread, on a few samples. Budgets lie between the least that the recipe needs and
what it takes without one.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from measure import arguments, finish, machine, synthetic

from tinyfoa_np.data import Dataset, Split, load
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reports.forecast import forecast
from tinyfoa_np.rules.fit import Layout
from tinyfoa_np.run.train import train

HEAD = ("network", "budget", "arena", "allocated beside it", "the largest", "description", "bookkeeping", "stack")
#: the trainings, by what the table calls them: data set, and fields of the recipe
TRAININGS: dict[str, tuple[str, dict[str, Any]]] = {
    "digits, fc:100x2, batch 10": ("digits", {"network": "fc:100x2", "batch": 10}),
    "MNIST, fc:200, M = 8, batch 1": ("mnist", {"network": "fc:200", "slices": 8, "batch": 1}),
    "MNIST, fc:500x2, batch 20": ("mnist", {"network": "fc:500x2", "batch": 20}),
    "MNIST, bp, fc:100x2, batch 10": ("mnist", {"algorithm": "bp", "network": "fc:100x2", "batch": 10}),
    "MNIST, giff, `cnn`, batch 8": ("mnist", {"algorithm": "giff", "network": "cnn", "batch": 8}),
}
#: budgets: the least, and these shares of what is left up to the fastest tiling; None is no budget
SHARES = (None, 0.5, 0.2, 0.05, 0.0)


class Row(NamedTuple):
    """A row of the table; bytes, None for what is not known."""

    name: str
    budget: int | None
    arena: int
    bookkeeping: int
    stack: int | None

    def cells(self, *traced: int) -> list[str]:
        """The row as text, with the allocations that were traced: peak, largest, and of the description."""
        bytes_ = [self.arena, *traced, self.bookkeeping, self.stack]
        return [self.name, *("none" if self.budget is None else f"{self.budget:,}",), *map(_text, bytes_)]


def _text(value: int | None) -> str:
    return "not known" if value is None else f"{value:,}"


def data(name: str) -> Dataset:
    """Random bytes in MNIST's shape, or the first digits."""
    if name == "mnist":
        return replace(synthetic(60, 20), image=(1, 28, 28), name=name)
    whole = load(name)
    first = [Split(split.inputs[:n], split.labels[:n]) for split, n in ((whole.train, 60), (whole.test, 20))]
    return replace(whole, train=first[0], test=first[1], digest=None)


def recipe(name: str) -> Recipe:
    """The recipe of a training."""
    of, fields = TRAININGS[name]
    return Recipe(dataset=of, **fields).validated()


def rows(name: str) -> Iterator[Row]:
    """The rows of a training, from plans alone; budgets that change nothing share one row."""
    which, samples = recipe(name), data(TRAININGS[name][0])
    layout = Layout(which, samples, 1)
    least, most = layout.least(), max(one.plan.nbytes for one in layout.fit(None))
    for share in SHARES:
        budget = None if share is None else int(least + share * (most - least))
        planned = forecast(which, samples, ram=budget, threads=1, advise=False, layout=layout)
        yield Row(name, budget, planned["ram"]["planned_bytes"], *list(planned["beside"].values())[:2])
        if least == most:
            return


def measured(name: str, budget: int | None) -> tuple[int, int, int]:
    """Bytes that an audited training allocates beside its arena at a time, the largest block, and the description's."""
    with tempfile.TemporaryDirectory() as where, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that not every slice trains
        result = train(recipe(name), data(TRAININGS[name][0]), where, ram=budget, threads=1, audit=True)
    assert not result["findings"], result["findings"]
    return tuple(result["beside"][f"{what}_bytes"] for what in ("peak", "largest", "described"))


def main() -> None:
    given = arguments(__doc__)
    print(f"{machine()}\n")
    found = []
    print(f"| {' | '.join(HEAD)} |\n| --- |{' ---: |' * (len(HEAD) - 1)}")
    for name in TRAININGS:
        for row in rows(name):
            peak, largest, described = measured(name, row.budget)
            print(f"| {' | '.join(row.cells(peak, largest, described))} |", flush=True)
            found.append({**row._asdict(), "peak": peak, "largest": largest, "described": described})
    finish(given.json, {"rows": found})


if __name__ == "__main__":
    main()
