"""DeeperForward's own kernels against their plain NumPy twin, on awkward shapes; threads do not show in any bit."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_tools import Blank, on_threads, only_samples, same_bits

from tinyfoa_np.kernels import deeperforward
from tinyfoa_np.reference import bits
from tinyfoa_np.reference import deeperforward as reference

few = settings(deadline=None, max_examples=15)


@few
@given(
    st.integers(1, 9),
    st.integers(1, 5),
    st.integers(1, 9),
    st.integers(1, 6),
    st.floats(-100, 100),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
)
def test_blocks(samples, places, size, blocks, shift, threads, seed):
    rng, B, width = np.random.default_rng(seed), samples + 1, size * blocks
    y = (rng.standard_normal((B, places, width)) + shift).astype(np.float32)
    maps = y.astype(np.float64).transpose(0, 2, 1)[..., None]  # (B, O, P, 1), as the reference has them
    known = {"mean": Blank((blocks, B), "float32"), "inverse": Blank((blocks, B), "float32")}
    scratch, own = Blank((threads, 2, width + 3), "float64"), {"per_thread": ("sums",)}
    shared = {"y": y, "samples": samples}
    done = on_threads(deeperforward.block_stats, "mean inverse sums", threads, **own, **shared, **known, sums=scratch)
    assert done.written["mean"][:, :samples].all() and not done.written["inverse"][:, samples:].any()
    np.testing.assert_allclose(done.mean[:, :samples].T, reference.class_goodness(maps, blocks)[:samples], 1e-6, 1e-6)
    found = {"mean": done.mean, "inverse": done.inverse}
    own = {"per_thread": ("scratch",)}
    done = on_threads(deeperforward.normalize, "y scratch", threads, **own, **shared, **found, scratch=scratch)
    expected = reference.normalized(maps, blocks)[..., 0].transpose(0, 2, 1)
    np.testing.assert_allclose(done.y[:samples], expected[:samples], rtol=1e-4, atol=1e-4 * max(1, abs(shift)))
    assert same_bits(done.y[samples:], y[samples:])


@few
@given(
    st.integers(1, 9),
    st.integers(1, 5),
    st.integers(1, 9),
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
)
def test_errors_shortcuts_and_dropout(samples, places, size, blocks, threads, seed):
    rng, B, width = np.random.default_rng(seed), samples + 1, size * blocks
    slopes = rng.standard_normal((blocks, B)).astype(np.float32)
    errors = Blank((B, places, width), "float32")
    about = {"slopes": slopes, "samples": samples, "grown": np.float32(1.25)}
    done = on_threads(deeperforward.block_errors, "dy", threads, **about, dy=errors)
    only_samples(done, "dy", samples)
    expected = np.repeat(slopes.T, size, axis=1)[:samples, None] * 1.25 / (size * places)
    np.testing.assert_allclose(done.dy[:samples], np.broadcast_to(expected, done.dy[:samples].shape), rtol=1e-6)

    y, kept = rng.standard_normal((2, B, places, width)).astype(np.float32)
    done = on_threads(deeperforward.add, "y", threads, y=y, samples=samples, kept=kept)
    assert same_bits(done.y, np.concatenate([(y + kept)[:samples], y[samples:]]))
    done = on_threads(
        deeperforward.join, "x", threads, y=y, samples=samples, kept=kept, x=Blank((B, places, 2 * width), "float32")
    )
    only_samples(done, "x", samples)
    assert same_bits(done.x[:samples], np.concatenate([y, kept], axis=2)[:samples])

    y, kept = rng.standard_normal((B, width)).astype(np.float32), rng.random((B, width)) < 0.5
    about = {"samples": samples, "grown": np.float32(2)}
    done = on_threads(deeperforward.drop, "y", threads, y=y, mask=bits.pack(kept), **about)
    np.testing.assert_array_equal(done.y[:samples], np.where(kept, 2 * y, 0)[:samples])
    assert same_bits(done.y[samples:], y[samples:])
