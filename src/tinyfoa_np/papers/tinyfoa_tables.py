"""The figures of Tables 1, 2 and 3 of the TinyFoA paper (Huang and Aminifar, AAAI 2025).

``table1.csv``, ``table2.csv`` and ``table3.csv`` next to this module contain them as printed: errors in % with their
standard deviation over three runs, memory in MB of 10^6 bytes (theoretical, one sample), computation in MFLOP x bytes
per inference. Table 2 contains only rows that are not in Table 1. Table 3 is for locally connected networks, on MNIST.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources

from .tinyfoa_memory import STEPS

#: tables by name, with their descriptions
TABLES = {
    "table1": "Table 1",
    "table2": "Table 2 (the rows that Table 1 does not have)",
    "table3": "Table 3 (locally connected networks)",
}
#: tables of locally connected networks
LOCAL = ("table3",)
DATASETS = ("mnist", "cifar10", "cifar100", "mitbih")


@dataclass(frozen=True)
class System:
    """An algorithm with its toggles, by its name in the tables.

    ``-v``, ``-bw`` and ``-ba`` remove vertical training, binary weights and binary activations from TinyFoA; ``+`` adds
    them to another algorithm.

    Examples
    --------
    >>> System.of("tinyfoa-v")
    System(algorithm='tinyfoa', binary_weights=True, binary_activations=True, vertical=False)
    """

    algorithm: str
    binary_weights: bool
    binary_activations: bool
    vertical: bool

    @classmethod
    def of(cls, name: str) -> System:
        """Parse a system's name."""
        sign = "-" if name.startswith("tinyfoa") else "+"
        algorithm, *changes = name.split(sign)
        v, bw, ba = ((change in changes) != (sign == "-") for change in ("v", "bw", "ba"))
        return cls(algorithm, bw, ba, v)


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes
    ----------
    table, setting, name : str
        The table, the group of rows (empty in Table 3), and the system as printed there.
    system : System
    errors : dict of str to (float, float)
        Error and standard deviation, %, by data set of the table.
    megabytes : dict of str to float
        Memory in MB by step: :data:`tinyfoa_np.papers.tinyfoa_memory.STEPS`.
    comp : float or None
        MFLOP x bytes per inference; None in Table 3.
    """

    table: str
    setting: str
    name: str
    system: System
    errors: dict[str, tuple[float, float]]
    megabytes: dict[str, float]
    comp: float | None


def rows(table: str) -> list[Row]:
    """The rows of one of :data:`TABLES`, in order."""
    text = resources.files(__package__).joinpath(f"{table}.csv").read_text()
    return [
        Row(
            table,
            line.get("setting", ""),
            line["system"],
            System.of(line["system"]),
            {name: (float(line[name]), float(line[f"{name}_std"])) for name in DATASETS if name in line},
            {step: float(line[f"{step}_mb"]) for step in STEPS},
            float(line["comp_mflop_bytes"]) if "comp_mflop_bytes" in line else None,
        )
        for line in csv.DictReader(text.splitlines())
    ]
