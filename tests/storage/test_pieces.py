"""Texts and files in pieces: the same bytes as in one, and little RAM for them."""

import json
import tracemalloc

import pytest
from flash_tools import scratch
from hypothesis import given
from hypothesis import strategies as st

from tinyfoa_np.storage.pieces import FEW, LONG, Through, write_json

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3 * LONG)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3 * FEW) | st.dictionaries(st.text(), inner, max_size=3 * FEW)
)


def text(value, **options):
    pieces = []
    write_json(value, pieces.append, **options)
    return "".join(pieces)


@given(VALUES, st.integers(0, 5))
def test_the_text_is_that_of_json(value, depth):
    assert text(value, depth=depth) == json.dumps(value)


def test_other_keys_tuples_and_iterators():
    value = {"a": {None: [1], 2: {}}, "b": ((1, ()),), "c": [[]] * 9}
    assert text(value) == json.dumps(value)
    assert text({"d": iter([]), "e": iter([1, {"f": [iter([2])]}])}) == '{"d": [], "e": [1, {"f": [[2]]}]}'


@pytest.mark.parametrize("value", [{"a": {1, 2}}, [b"x"] * 40, {"a": [[object()]]}])
def test_what_is_not_json_is_refused(value):
    with pytest.raises(TypeError):
        text(value)


def test_a_large_text_takes_little_ram():
    value = {"a": [{"name": str(k), "shape": [k, 3], "text": "x" * 2000} for k in range(300)], "b": [0.1] * 5000}
    sizes = []
    write_json(value, lambda piece: sizes.append(len(piece)))
    assert max(sizes) <= 600 and sum(sizes) == len(json.dumps(value))
    tracemalloc.start()
    try:
        write_json(value, lambda piece: None)
        assert tracemalloc.get_traced_memory()[1] < 4096
    finally:
        tracemalloc.stop()


@given(st.lists(st.binary(max_size=50)), st.integers(1, 40), st.integers(0, 9))
def test_a_file_holds_the_pieces_one_after_another(tmp_path_factory, pieces, size, place):
    path = tmp_path_factory.mktemp("through") / "file"
    with open(path, "wb") as file:
        out = Through(file.fileno(), scratch(size), place)
        for piece in pieces:
            out.write(piece)
        out.flush()
    assert path.read_bytes()[place:] == b"".join(pieces)
