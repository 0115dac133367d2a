"""Random augmentation of training images as written in a recipe: ``flip,crop:4`` or ``flip,shift:10%,rotate:15``."""

from __future__ import annotations

import re
from typing import NamedTuple

from .errors import BadRequest

_PARTS = {
    "flip": re.compile(r"flip"),
    "crop": re.compile(r"crop:(\d{1,4})"),
    "shift": re.compile(r"shift:(\d{1,4})(%?)"),
    "rotate": re.compile(r"rotate:(\d{1,3}(?:\.\d{1,6})?)"),
}


class Augment(NamedTuple):
    """Options of an augmentation.

    Attributes
    ----------
    flip : bool
        Whether to mirror half of the images, left to right.
    move : int
        Maximum shift in each direction, in pixels, or in percent of rows and columns.
        percent : bool
            Whether ``move`` is in percent.
        zeros : bool
            Whether pixels shifted in are 0; otherwise they equal the nearest pixel.
    degrees : float
        Maximum rotation about the centre, in degrees.
    """

    flip: bool = False
    move: int = 0
    percent: bool = False
    zeros: bool = False
    degrees: float = 0.0

    def pixels(self, size: int) -> int:
        """Maximum shift in pixels along a side of ``size`` pixels."""
        return self.move * size // 100 if self.percent else self.move


def _read(text: str) -> dict[str, re.Match[str]]:
    found: dict[str, re.Match[str]] = {}
    for part in text.split(","):
        name = part.partition(":")[0].strip()
        match = _PARTS[name].fullmatch(part.strip()) if name in _PARTS else None
        if match is None or name in found:
            raise BadRequest(
                f"augment is {text[:40]!r}: write some of flip, crop:4, shift:3 or shift:10%, and rotate:15, with"
                " commas between them"
            )
        found[name] = match
    if "crop" in found and "shift" in found:
        raise BadRequest("augment moves images by crop, which pads with 0, or by shift: give one of them")
    return found


def canonical(text: str) -> str:
    """Normalize the spelling of an augmentation.

    Raises
    ------
    BadRequest
        If it is invalid.
    """
    found = _read(text)
    parsed = parse(text)
    if parsed.degrees > 180 or parsed.percent and parsed.move > 100:
        raise BadRequest(f"augment is {text[:40]!r}: at most rotate:180 and shift:100%")
    return ",".join(found[name][0] for name in _PARTS if name in found)


def parse(text: str) -> Augment:
    """Parse an augmentation.

    Parameters
    ----------
    text : str
        Parts separated by commas: ``flip``; ``crop:4``, a random crop of the image padded with 4 pixels of 0;
        ``shift:3`` or ``shift:10%``, the same but padded with the nearest pixels; ``rotate:15``, in degrees.

    Examples
    --------
    >>> parse("flip,crop:4")
    Augment(flip=True, move=4, percent=False, zeros=True, degrees=0.0)
    """
    found = _read(text)
    moved = found.get("crop") or found.get("shift")
    return Augment(
        "flip" in found,
        int(moved[1]) if moved else 0,
        bool(moved and moved[0].endswith("%")),
        "crop" in found,
        float(found["rotate"][1]) if "rotate" in found else 0.0,
    )
