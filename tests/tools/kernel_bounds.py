"""Run by test_kernels.py in a process of its own, with NUMBA_BOUNDSCHECK=1: no kernel goes beyond its arrays.

numba checks the indices it knows of. The vector instructions go by address: for these each array lies right before, in
a second call right behind, a page that must not be touched, and the process dies where one is.
"""

import ctypes
import faulthandler
import mmap

import numpy as np
from kernel_tools import GARBAGE, make_batch, pack_active, run_backward, run_forward, run_gradient, run_update, stored

from tinyfoa_np.kernels.dense_update import BLOCK
from tinyfoa_np.kernels.operands import Given, Projected

LIBC = ctypes.CDLL(None, use_errno=True)
PAGE = mmap.PAGESIZE


def forbid(address):
    """One page that nobody may read or write."""
    if LIBC.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(PAGE), 0):
        raise OSError(ctypes.get_errno(), "mprotect")


def between_forbidden_pages(arrays, inside, around):
    """As ``kernel_tools.in_one_block``: the garbage is what an array leaves of its pages."""
    views, rest = {}, []
    for name, array in arrays.items():
        size = int(np.prod(array.shape)) * np.dtype(array.dtype).itemsize
        pages = np.frombuffer(mmap.mmap(-1, (-(-size // PAGE) + 2) * PAGE), np.uint8)
        forbid(pages.ctypes.data)
        forbid(pages.ctypes.data + pages.size - PAGE)
        own = pages[PAGE:-PAGE]
        own[:] = around
        start = own.size - size if inside == GARBAGE[0][0] else 0
        own[start : start + size] = inside
        views[name] = own[start : start + size].view(array.dtype).reshape(array.shape)
        if isinstance(array, np.ndarray):
            views[name][...] = array
        rest += [own[:start], own[start + size :]]
    return views, lambda: all(bool((garbage == around).all()) for garbage in rest)


def check(kind, form, binary, shape, threads):
    """One step of one layer: forward in tiles, backward, gradient, and an update of an inner slice."""
    samples, B, I, O, C = shape
    batch = make_batch(0, kind, form, binary, *shape)
    forward = run_forward(batch, min(O, 64), threads, lay_out=between_forbidden_pages)
    assert forward.written["results.logits"][:, :samples].all()

    rng = np.random.default_rng(1)
    given, below = rng.standard_normal((O, B)).astype(np.float32), pack_active(rng.random((I, B)) < 0.5)
    done = run_backward(given, samples, batch.W, form, np.float32(1), below, threads, lay_out=between_forbidden_pages)
    assert done.written["out"][:, :samples].all()

    active = rng.random((O, B)) < 0.5
    dz, factor = (active * rng.standard_normal((O, B))).astype(np.float32), np.ones(B, np.float32)
    error = rng.standard_normal((C, B)).astype(np.float32)
    moments, bias_moments = list(np.zeros((2, O, I), np.float32)), list(np.zeros((2, O), np.float32))
    for source in (Projected(error, batch.P, pack_active(active), 0), Given(dz, 0, factor), Given(dz, 0, factor[:0])):
        step = {"inputs": batch.inputs, "samples": samples, "source": source, "W": batch.W}
        for rect in ((0, O, 0, I), (O // 2, O, I // 3, I)):
            dW, _ = run_gradient(**step, rect=rect, lay_out=between_forbidden_pages)
            done = run_update(
                **step,
                rect=rect,
                moments=moments,
                weights=stored(batch.W, form),
                bias=batch.b,
                bias_moments=bias_moments,
                optimizer="adam",
                threads=threads,
                neurons=threads,
                lay_out=between_forbidden_pages,
            )
            assert (done.moments[0][rect[0] :, rect[2] :] != 0).any() == (dW != 0).any()
            if not isinstance(source, Given):
                continue
            for held in ("uint16", "uint8"):  # moments as codes
                codes, blocks = [m.astype(held) for m in moments], -(-(rect[3] - rect[2]) // BLOCK)
                done = run_update(
                    **step,
                    rect=rect,
                    moments=codes,
                    weights=stored(batch.W, form),
                    bias=batch.b,
                    threads=threads,
                    bias_moments=bias_moments,
                    units=[np.zeros((O, blocks), held)] * 2 if held == "uint8" else (),
                    optimizer="adam",
                    lay_out=between_forbidden_pages,
                )
                assert (done.moments[0][rect[0] :, rect[2] :] != 0).any() == (dW != 0).any()


def main():
    for kind, form, binary in (("bits", "signs", True), ("bytes", "signs", True), ("real", "floats", False)):
        for samples, B, I, O, C in ((1, 1, 1, 1, 1), (9, 16, 64, 64, 5), (35, 50, 130, 77, 7), (20, 20, 1100, 13, 3)):
            for threads in (1, 3):
                check(kind, form, binary, (samples, B, I, O, C), threads)
        print(kind, form, "stay within their arrays", flush=True)

    # The two instruments themselves: a bias too short, then a look behind an array, which ends this process.
    batch = make_batch(0, "bits", "signs", True, 4, 4, 64, 9, 2)
    everywhere = Projected(np.ones((2, 4), np.float32), batch.P, pack_active(np.ones((9, 4), bool)), 0)
    try:
        run_update(
            batch.inputs,
            4,
            everywhere,
            batch.W,
            (0, 9, 0, 64),
            list(np.zeros((2, 9, 64), np.float32)),
            stored(batch.W, "signs"),
            batch.b[:8],
            list(np.zeros((2, 9), np.float32)),
            "adam",
        )
    except (IndexError, SystemError) as error:  # of an IndexError in a thread numba makes a SystemError
        print("numba says:", error.__cause__ or error, flush=True)
    views, _ = between_forbidden_pages({"a": np.zeros(3)}, *GARBAGE[0])
    print("behind an array:", np.lib.stride_tricks.as_strided(views["a"], (4,))[3], flush=True)


if __name__ == "__main__":
    faulthandler.enable()
    main()
