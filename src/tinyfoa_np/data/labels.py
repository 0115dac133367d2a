"""Labels as class numbers: integers or text, as spelled in the file, never through floating point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinyfoa_np.data.arrays import shown
from tinyfoa_np.data.cells import control_character, is_missing, is_number, number, whole
from tinyfoa_np.data.csv_table import MOST_CLASSES, Coded
from tinyfoa_np.errors import BadRequest

#: of labels that look like measurements
_CLASSES = "is it the label? Labels must be classes; measured values cannot be predicted"


def coded(name: str, labels: np.ndarray, samples: int) -> Coded:
    """Encode the labels (N,) or (N, 1) of an array, integers or text; raises `BadRequest` for any others."""
    labels = labels.reshape(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.shape != (samples,):
        raise BadRequest(f"{name} has {samples} samples and labels {labels.shape}: one label per sample is needed")
    if labels.dtype.kind not in "fiubUS":
        raise BadRequest(f"{name} has {labels.dtype} labels: whole numbers or text are needed")
    try:
        known, codes = np.unique(labels.astype(str) if labels.dtype.kind == "S" else labels, return_inverse=True)
    except UnicodeError as error:
        raise BadRequest(f"{name} has labels that are not text") from error
    if known.dtype.kind == "U":
        values = [label.strip() for label in known.tolist()]
        missing = next((label for label in values if is_missing(label)), None)
        if missing is not None:
            first = int((codes == values.index(missing)).argmax()) + 1
            raise BadRequest(f"{name}: sample {first} has no label, but {missing!r}; give it one, or leave it out")
        for label in values:
            if control := control_character(label):
                raise BadRequest(f"{name} has a label {label[:40]!r}, which is not text: it contains {control!r}")
        return Coded(codes.reshape(-1), values)
    with np.errstate(invalid="ignore", over="ignore"):
        near = known.astype(np.int64) if known.dtype.kind != "u" else known
        wrong = known[near != known] if known.dtype.kind == "f" else known[:0]
    if len(wrong) or known.dtype.kind == "f" and (np.abs(known) >= 2**63).any():
        value = wrong[0] if len(wrong) else known[-1]
        raise BadRequest(f"{name} has a label {value}, which is not a whole number: {_CLASSES}")
    if known.dtype.kind == "f" and np.abs(known).max() > 2.0 ** (bits := np.finfo(known.dtype).nmant + 1):
        raise BadRequest(f"{name} has labels beyond 2**{bits}, where {known.dtype} skips whole numbers: use integers")
    return Coded(codes.reshape(-1), [str(int(value)) for value in near.tolist()])


def numbered(
    parts: Sequence[tuple[str, Coded]], column: str = ""
) -> tuple[list[np.ndarray], list[str | int] | None, int]:
    """Class numbers (N,) int64 of each set's labels; the sorted labels if they are not 0 to C - 1; and C.

    The first set determines the classes; ``column`` is the name of its labels, if they have one.

    Raises
    ------
    BadRequest
        If the labels cannot be classes, or a later set has a label that the first does not have.
    """
    name, labels = parts[0]
    its = f"{name}, column {shown(column)!r}," if column else name
    known = _values(its, labels.values)
    classes: list[str | int] = sorted(set(known))
    samples = len(labels.codes)
    if len(classes) < 2:
        raise BadRequest(f"{name} has only one class, {shown(classes[0])}: at least two are needed")
    if len(classes) > MOST_CLASSES:
        raise BadRequest(f"{name} has {len(classes):,} classes: at most {MOST_CLASSES:,} are possible")
    if 2 * len(classes) > samples + 3:
        raise BadRequest(f"{its} has {len(classes)} classes in {samples} samples: {_CLASSES}{_other(its)}")
    numbers = [recoded(other, each, classes, name) for other, each in parts]
    return numbers, None if classes == list(range(len(classes))) else classes, len(classes)


def recoded(name: str, labels: Coded, classes: Sequence[str | int], trained: str) -> np.ndarray:
    """Class numbers (N,) int64 of labels, which must be among the known ones.

    Raises
    ------
    BadRequest
        If a label is unknown.
    """
    number_of = {label: n for n, label in enumerate(classes)}
    text = any(isinstance(label, str) for label in classes)
    found = []
    for value in labels.values:
        label: str | int | None = value if text else whole(value)
        if label not in number_of:
            raise BadRequest(f"{name} has a label {shown(value)} that {trained} does not have")
        found.append(number_of[label])
    return np.array(found, np.int64)[labels.codes] if found else np.zeros(0, np.int64)


def _other(name: str) -> str:
    """How to name another column of a table as the label."""
    return "; --label COLUMN selects another column" if ".csv" in name.lower() else ""


def _values(name: str, spelled: Sequence[str]) -> list[str | int]:
    """Labels as integers if all are spelled so, else as texts; measurements are refused."""
    numbers = [whole(label) for label in spelled]
    if all(value is not None for value in numbers):
        return numbers  # type: ignore[return-value]
    if all(map(is_number, spelled)):
        with_fraction = next((label for label in spelled if not number(label).is_integer()), None)
        if with_fraction is not None:
            value = with_fraction[:40]
            raise BadRequest(f"{name} has a label {value}, which is not a whole number: {_CLASSES}{_other(name)}")
    return list(spelled)
