"""From an electrocardiogram to one row per heartbeat, as the public preparation of MIT-BIH does it.

After Kachuee, Fazeli and Sarrafzadeh, "ECG heartbeat classification: a deep transferable representation" (ICHI 2018):
125 Hz; from each R peak on, 1.2 times the median RR interval of its window of 10 s; scaled to 0..1; zeros up to 187
values. Their code is not published; what they leave open is settled here so:

- R peaks are the annotated beats. The RR interval of a beat is the one to the next beat, so a record's last beat has
  none, and no row: without those 48, each class has exactly as many beats as in the published files.
- Windows follow each other from the record's start; a row has no more than 187 values.
- Each row is scaled by its own smallest and largest value, before zeros are added.
- The signal is lead II (``MLII``), or a record's first where it has none.

Up to the scaling, all of it is done in whole numbers, so that every computer gets the same bits.
"""

from __future__ import annotations

import os

import numpy as np

#: of the records and of the rows, Hz; the second is 25/72 of the first
RECORDED, RATE = 360, 125
_UP, _DOWN = 25, 72
WINDOW = 10 * RECORDED
LENGTH = 187
LEAD = "MLII"
#: the annotations that are beats, by AAMI class
CLASSES = {"N": "NLRej", "S": "AaJS", "V": "VE", "F": "F", "Q": "/fQ"}
_CLASS_OF = {symbol: number for number, symbols in enumerate(CLASSES.values()) for symbol in symbols}
#: half the width of the resampling filter, in samples of the record, and its taps' common denominator
_REACH, _ONE = 24, 1 << 20


def resampled(signal: np.ndarray) -> np.ndarray:
    """A signal at 125 Hz instead of 360, times 2^20.

    Each value is a weighted sum of the 48 recorded ones around it: a sinc that passes what is below 62.5 Hz, in a Hann
    window. There are 25 sets of weights, one for each place between two samples, in steps of 2^-20.

    Parameters
    ----------
    signal : ndarray (N,), integer
        As the converter gave it, below 2^20 in size.

    Returns
    -------
    ndarray (ceil(25 N / 72),), int64

    Examples
    --------
    >>> (resampled(np.full(72, 3)) == 3 << 20).all()  # beyond its ends a signal is what it is there
    np.True_
    """
    at = np.arange(-(-len(signal) * _UP // _DOWN)) * _DOWN  # in 25ths of a recorded sample
    first, phase = at // _UP, at % _UP
    padded = np.pad(np.asarray(signal, np.int64), _REACH, mode="edge")
    out = np.zeros(len(at), np.int64)
    for k, taps in enumerate(_filter().T):
        out += padded[first + k + 1] * taps[phase]
    return out


def _filter() -> np.ndarray:
    """Weights (25, 48), int64: row p for a place p / 25 after sample 23; each row's sum is 2^20."""
    distance = np.arange(2 * _REACH) - (_REACH - 1) - np.arange(_UP)[:, None] / _UP
    ideal = np.sinc(distance * _UP / _DOWN) * np.cos(np.pi * distance / (2 * _REACH)) ** 2
    taps: np.ndarray = np.rint(ideal / ideal.sum(axis=1, keepdims=True) * _ONE).astype(np.int64)
    taps[:, _REACH - 1] += _ONE - taps.sum(axis=1)
    return taps


def rows(signal: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """One row for each heartbeat but the last: float32, 0..1, zeros at the end.

    Parameters
    ----------
    signal : ndarray (N,), integer
        As recorded, at 360 Hz.
    peaks : ndarray (P,), integer
        The R peaks' samples, rising, below N.

    Returns
    -------
    ndarray (P - 1, 187), float32; (0, 187) where there are fewer than two peaks.
    """
    slow, starts = resampled(signal), peaks[:-1]
    intervals, windows = np.diff(peaks), starts // WINDOW
    beginnings = (starts * (2 * _UP) + _DOWN) // (2 * _DOWN)  # to the nearest sample
    out = np.zeros((len(starts), LENGTH), np.float32)
    for window in np.unique(windows):
        here = windows == window
        # 1.2 medians at 360 Hz are 5/12 of one at 125 Hz; two medians are a whole number
        length = (int(2 * np.median(intervals[here])) * 5 + 12) // 24
        for row, begin in zip(np.flatnonzero(here), beginnings[here]):
            beat = slow[begin : begin + min(length, LENGTH)]
            low, high = beat.min(), beat.max()
            if high > low:  # a flat line stays zeros
                out[row, : len(beat)] = (beat - low) / (high - low)
    return out


def beats(record: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Rows (P - 1, 187) float32 and AAMI classes (P - 1,) uint8 of a WFDB record: its path without suffix.

    Raises
    ------
    Exception
        Whatever the ``wfdb`` library raises for files that are no such record.
    """
    import wfdb

    names = wfdb.rdheader(str(record)).sig_name
    channel = names.index(LEAD) if LEAD in names else 0
    signal = wfdb.rdrecord(str(record), channels=[channel], physical=False).d_signal[:, 0]
    notes = wfdb.rdann(str(record), "atr")
    beat = np.array([symbol in _CLASS_OF for symbol in notes.symbol], bool)
    labels = np.array([_CLASS_OF.get(symbol, 0) for symbol in notes.symbol], np.uint8)
    return rows(signal, np.asarray(notes.sample)[beat]), labels[beat][:-1]
