"""What Python 2 wrote of a batch of CIFAR, written here instruction by instruction."""

import struct

import numpy as np


def bytes_(text):
    return b"U" + bytes([len(text)]) + text if len(text) < 256 else b"T" + struct.pack("<i", len(text)) + text


def python2(pixels, labels, key="labels", shape=None):
    """What Python 2 wrote of a batch, protocol 2: written here instruction by instruction."""
    rows, columns = shape or pixels.shape
    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87R("
    array += b"K\x01M" + struct.pack("<H", rows) + b"M" + struct.pack("<H", columns) + b"\x86"
    array += b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    array += bytes_(pixels.tobytes()) + b"tb"
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    batch = bytes_(b"batch_label") + bytes_(b"training batch 1 of 5")
    return b"\x80\x02}q\x00(" + batch + bytes_(key.encode()) + listed + bytes_(b"data") + array + b"u."


GENUINE = python2(np.arange(6, dtype=np.uint8).reshape(2, 3), [1, 2])
