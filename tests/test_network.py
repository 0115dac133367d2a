"""Networks as text: what is meant is understood, everything else is refused in one line."""

import doctest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyfoa_np import network as module
from tinyfoa_np.errors import BadRequest
from tinyfoa_np.network import CONNECTIONS, LayerShape, described, image_of, layer_shapes, widths

WIDTHS = st.integers(1, 10**6)


def test_example_in_docstring():
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


@given(st.lists(st.tuples(WIDTHS, st.integers(1, 20), st.booleans()), min_size=1, max_size=8), WIDTHS)
def test_widths_and_counts(parts, inputs):
    text = "fc:" + ",".join(f"{width}x{times}" if times > 1 or said else str(width) for width, times, said in parts)
    widths = [width for width, times, _ in parts for _ in range(times)]
    shapes = layer_shapes(text, inputs)
    assert [shape.outputs for shape in shapes] == widths
    assert [shape.inputs for shape in shapes] == [inputs, *widths[:-1]]


@given(st.lists(st.integers(1, 99), min_size=1, max_size=5), *[st.integers(1, 40)] * 3, st.sampled_from(CONNECTIONS))
def test_locally_connected_layers_read_images(channels, below, rows, columns, connect):
    text, image = "lc:" + ",".join(map(str, channels)), (below, rows, columns)
    shapes = layer_shapes(text, below * rows * columns, image, connect)
    assert widths(text) == tuple(channels) and described(shapes) == text and image_of(shapes) == image
    for shape, I, O in zip(shapes, [below, *channels], channels, strict=False):
        assert (shape.inputs, shape.outputs, shape.places) == (I * rows * columns, O * rows * columns, rows * columns)
        assert shape.fan_in == 9 * (I if connect == "full" else 1)
    with pytest.raises(BadRequest, match="not images"):
        layer_shapes(text, below * rows * columns)
    with pytest.raises(BadRequest, match="do not have"):
        layer_shapes(text, below * rows * columns + 1, image)


def test_the_papers_network():
    assert layer_shapes("fc:2000x4", 784) == (LayerShape(784, 2000), *[LayerShape(2000, 2000)] * 3)


@settings(max_examples=300)
@given(st.text() | st.text("fc:0123456789x, -+.elLF²٣\n", max_size=12) | st.from_regex(r"\Afc:[0-9x,]{1,30}\Z"))
def test_any_text_is_understood_or_refused_in_one_line(text):
    try:
        shapes = layer_shapes(text, 5)
    except BadRequest as refused:
        assert "\n" not in str(refused)
        assert "fc:" in str(refused)  # what would be right
    else:
        assert text.startswith("fc:") and 1 <= len(shapes) <= 1000
        assert all(shape.inputs >= 1 and shape.outputs >= 1 for shape in shapes)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fc",
        "fc:",
        "2000x4",
        "fc:0",
        "fc:0x3",
        "fc:10x0",
        "fc:10,,10",
        "fc:10,",
        "fc:,10",
        "fc:10x",
        "fc:x10",
        "fc:-5",
        "fc:1.5",
        "fc: 10",
        "fc:10 ",
        "fc:10\n",
        "FC:10",
        "lc:16,32",
        "fc:10x2x2",
        "fc:1e3",
        "fc:10,0",
        "fc:1x1001",
        "fc:3x999999999999999999",
        "fc:" + "9" * 5000,
        "fc:1x" + "9" * 5000,
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_is_refused(text):
    with pytest.raises(BadRequest, match="'fc:2000x4'"):
        layer_shapes(text, 784)
