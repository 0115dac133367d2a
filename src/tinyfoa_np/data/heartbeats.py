"""Convert an electrocardiogram to one row per heartbeat, like the public preparation of MIT-BIH.

After Kachuee, Fazeli and Sarrafzadeh, "ECG heartbeat classification: a deep transferable representation" (ICHI 2018):
125 Hz; from each R peak, 1.2 times the median RR interval of its 10 s window; scaled to 0..1; padded with zeros to 187
values. Their code is not published. Unspecified details are chosen as follows:

- R peaks are the annotated beats. The RR interval of a beat is the one to the next beat, so the last beat of a record
  has none and gives no row. Without those 48 beats, each class has exactly as many as in the published files.
- Windows follow each other from the record's start; a row has at most 187 values.
- Each row is scaled by its own minimum and maximum, before padding.
- The signal is lead II (``MLII``), or the record's first signal if it has none.

Up to the scaling, all arithmetic is in integers, so that results are bit-identical on every computer.
"""

from __future__ import annotations

import os

import numpy as np

#: sampling rates of the records and of the rows, Hz; the second is 25/72 of the first
RECORDED, RATE = 360, 125
_UP, _DOWN = 25, 72
WINDOW = 10 * RECORDED
LENGTH = 187
LEAD = "MLII"
#: beat annotations by AAMI class
CLASSES = {"N": "NLRej", "S": "AaJS", "V": "VE", "F": "F", "Q": "/fQ"}
_CLASS_OF = {symbol: number for number, symbols in enumerate(CLASSES.values()) for symbol in symbols}
#: half the width of the resampling filter, in samples of the record, and its taps' common denominator
_REACH, _ONE = 24, 1 << 20


def resampled(signal: np.ndarray) -> np.ndarray:
    """Resample a signal from 360 Hz to 125 Hz; the result is multiplied by 2^20.

    Each value is a weighted sum of the 48 recorded values around it: a sinc with cutoff 62.5 Hz in a Hann window. There
    are 25 sets of weights, one per position between two samples, in steps of 2^-20.

    Parameters
    ----------
    signal : ndarray (N,), integer
        As digitized, below 2^20 in absolute value.

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
    """Weights (25, 48), int64: row p for the position p / 25 after sample 23; each row sums to 2^20."""
    distance = np.arange(2 * _REACH) - (_REACH - 1) - np.arange(_UP)[:, None] / _UP
    ideal = np.sinc(distance * _UP / _DOWN) * np.cos(np.pi * distance / (2 * _REACH)) ** 2
    taps: np.ndarray = np.rint(ideal / ideal.sum(axis=1, keepdims=True) * _ONE).astype(np.int64)
    taps[:, _REACH - 1] += _ONE - taps.sum(axis=1)
    return taps


def rows(signal: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """One row per heartbeat except the last: float32, 0..1, padded with zeros.

    Parameters
    ----------
    signal : ndarray (N,), integer
        As recorded, at 360 Hz.
    peaks : ndarray (P,), integer
        Sample numbers of the R peaks, increasing, below N.

    Returns
    -------
    ndarray (P - 1, 187), float32; (0, 187) if there are fewer than two peaks.
    """
    slow, starts = resampled(signal), peaks[:-1]
    intervals, windows = np.diff(peaks), starts // WINDOW
    beginnings = (starts * (2 * _UP) + _DOWN) // (2 * _DOWN)  # rounded to the nearest sample
    out = np.zeros((len(starts), LENGTH), np.float32)
    for window in np.unique(windows):
        here = windows == window
        # 1.2 medians at 360 Hz are 5/12 of one at 125 Hz; two medians are an integer
        length = (int(2 * np.median(intervals[here])) * 5 + 12) // 24
        for row, begin in zip(np.flatnonzero(here), beginnings[here]):
            beat = slow[begin : begin + min(length, LENGTH)]
            low, high = beat.min(), beat.max()
            if high > low:  # a flat line stays zero
                out[row, : len(beat)] = (beat - low) / (high - low)
    return out


def beats(record: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Rows (P - 1, 187) float32 and AAMI classes (P - 1,) uint8 of a WFDB record, given by its path without suffix.

    Raises
    ------
    Exception
        Whatever the ``wfdb`` library raises for invalid files.
    """
    import wfdb

    names = wfdb.rdheader(str(record)).sig_name
    channel = names.index(LEAD) if LEAD in names else 0
    signal = wfdb.rdrecord(str(record), channels=[channel], physical=False).d_signal[:, 0]
    notes = wfdb.rdann(str(record), "atr")
    beat = np.array([symbol in _CLASS_OF for symbol in notes.symbol], bool)
    labels = np.array([_CLASS_OF.get(symbol, 0) for symbol in notes.symbol], np.uint8)
    return rows(signal, np.asarray(notes.sample)[beat]), labels[beat][:-1]
