"""The grid of slices and the schedules, against numpy.array_split and the reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyfoa_np.errors import BadRequest
from tinyfoa_np.layers.encoding import Encoding
from tinyfoa_np.recipe import Recipe
from tinyfoa_np.reference import slices as reference
from tinyfoa_np.rules.tinyfoa import Layer
from tinyfoa_np.slices import ORDERS, Grid, Groups, Schedule, cuts

LENGTHS = st.integers(1, 60)


@given(LENGTHS, st.data())
def test_cuts_are_those_of_array_split(length, data):
    parts = data.draw(st.integers(1, length))
    bounds = cuts(length, parts)
    pieces = np.array_split(np.arange(length), parts)
    assert [list(range(a, b)) for a, b in zip(bounds, bounds[1:])] == [piece.tolist() for piece in pieces]
    assert [slice(a, b) for a, b in zip(bounds, bounds[1:])] == reference.cuts(length, parts)


@given(LENGTHS, LENGTHS, st.data())
def test_slices_tile_the_layer_in_reference_order(outputs, inputs, data):
    side = data.draw(st.integers(1, min(outputs, inputs, 6)))
    grid = Grid(outputs, inputs, side)
    rows, columns = reference.cuts(outputs, side), reference.cuts(inputs, side)
    covered = np.zeros((outputs, inputs), int)
    assert len(grid) == side**2
    for k, (j, i) in enumerate(reference.all_slices(side)):
        part = grid.slice(k)
        assert (slice(part.first, part.last), slice(part.low, part.high)) == (rows[j], columns[i])
        assert grid.rows(j) == (part.first, part.last)
        covered[part.first : part.last, part.low : part.high] += 1
        assert part.size == (part.last - part.first) * (part.high - part.low) <= grid.slice(0).size
    assert (covered == 1).all()


@given(LENGTHS, LENGTHS, LENGTHS, st.data())
def test_groups_of_channels_tile_a_locally_connected_layer(channels, places, fan_in, data):
    side = data.draw(st.integers(1, channels))
    groups, turns = Groups(channels, places, fan_in, side), Schedule(1, 0, 100, groups=True)
    assert [slice(*groups.bounds(k)) for k in range(side)] == reference.cuts(channels, side)
    ends = [groups.rows(k) for k in range(side)]
    assert ends[0][0] == 0 and ends[-1][1] == channels * places
    assert all(last == first for (_, last), (first, _) in zip(ends, ends[1:]))
    assert all(groups.slice(k) == (*groups.rows(k), 0, fan_in) for k in range(len(groups)))
    assert groups.slice(0).size == max(groups.slice(k).size for k in range(side))
    assert [turns.slices(hold, side) for hold in range(side + 1)] == [[k % side] for k in range(side + 1)]
    assert turns.neurons(side - 1, groups) == groups.rows(side - 1)


@given(st.integers(0, 10**9), st.integers(1, 10**6))
def test_holds_of_a_number_of_steps(step, hold):
    assert Schedule(hold, 0, 1).holds(step) == reference.hold_at(step, hold)


@given(st.integers(1, 10**6), st.integers(1, 500), st.data())
def test_holds_of_a_number_of_exchanges(steps, exchanges, data):
    step = data.draw(st.integers(0, steps - 1))
    hold = Schedule(0, exchanges, steps).holds(step)
    assert hold == reference.hold_of_exchanges(step, steps, exchanges)
    assert 0 <= hold < exchanges
    assert hold * steps <= step * exchanges < (hold + 1) * steps  # k has begun, k + 1 has not


def layer(outputs=11, inputs=13, batches=4, **options):
    recipe = Recipe(network=f"fc:{outputs}", batch=8, **options).validated()
    return Layer(recipe, 0, Encoding("bytes", inputs), outputs, 3, batches).parameters


@settings(max_examples=60)
@given(st.integers(1, 5), st.integers(1, 9), st.booleans(), st.integers(1, 6))
def test_schedule_slice_trains_the_slices_of_the_reference(side, hold, in_epochs, epochs):
    batches = 4
    text = f"{hold}epochs" if in_epochs else str(hold)
    trained = layer(batches=batches, slices=side, schedule="slice", epochs=epochs, hold=text)
    for step in range(epochs * batches):
        j, i = reference.slice_at(reference.hold_at(step, hold * batches if in_epochs else hold), side)
        assert trained.due(step) == [j * side + i]


@settings(max_examples=60)
@given(st.integers(1, 5), st.integers(1, 40), st.integers(1, 6))
def test_schedule_slice_moves_on_at_the_exchanges_of_the_reference(side, exchanges, epochs):
    batches = 4
    trained, first = layer(batches=batches, slices=side, schedule="slice", epochs=epochs, exchanges=exchanges), {}
    for step in range(epochs * batches):
        j, i = reference.slice_at(reference.hold_of_exchanges(step, epochs * batches, exchanges), side)
        assert trained.due(step) == [j * side + i]
        first.setdefault(j * side + i, step)
    assert trained.schedule.first_steps(side) == first  # where there are more exchanges than steps, some are passed by


@settings(max_examples=60)
@given(st.integers(1, 5), st.sampled_from(ORDERS), st.data())
def test_turns_are_those_of_the_reference(side, order, data):
    """Of one slice for a hold, or of several in every step; which neurons they take, and when each has its first."""
    visits, hold = data.draw(st.integers(1, side**2)), data.draw(st.integers(1, 3))
    trained = layer(batches=6, slices=side, schedule="slice", epochs=5, hold=str(hold), visits=visits, order=order)
    first, rows = {}, set()
    for step in range(30):
        turns = [j * side + i for j, i in reference.slices_at(reference.hold_at(step, hold), side, visits, order)]
        assert trained.due(step) == turns
        top, bottom = trained.first_trained(step), max(trained.grid.slice(k).last for k in turns)
        assert top == min(trained.grid.slice(k).first for k in turns)
        rows.add(bottom - top)
        for k in turns:
            first.setdefault(k, step)
    assert sorted(trained.visited()) == sorted(first)
    assert trained.schedule.first_steps(side) == first
    assert trained.trained_rows == max(rows)


@given(st.integers(1, 12), st.sampled_from(ORDERS))
def test_everyone_has_a_turn_and_diagonals_share_no_row_or_column(side, order):
    turns = [divmod(Schedule(1, 0, 1, 1, order).slice_of(turn, side), side) for turn in range(side**2)]
    assert sorted(turns) == reference.all_slices(side)
    for start in range(0, side**2, side):
        rows, columns = (set(part) for part in zip(*turns[start : start + side], strict=True))
        assert len(rows) == (1 if order == "rows" else side)
        assert len(columns) == side


def test_the_paper_holds_each_slice_for_an_epoch():
    trained = layer(batches=3, slices=2)
    assert [trained.due(step) for step in range(15)] == [[k] for k in (0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 0, 0, 0)]


@given(st.integers(1, 5), st.integers(0, 20))
def test_schedule_stream_trains_every_slice_once_a_step_beginning_with_the_resident_one(side, step):
    trained = layer(slices=side, schedule="stream")
    assert sorted(trained.due(step)) == list(range(side**2))
    assert trained.due(step + 1)[0] == trained.due(step)[-1]


def test_more_slices_than_a_layer_has_rows_or_columns():
    assert layer(slices=11).full_grid.side == 11
    for shape in ({"outputs": 11, "inputs": 13}, {"outputs": 13, "inputs": 11}):
        with pytest.raises(BadRequest, match="12 slices per side do not fit layer 1 .* at most 11"):
            layer(**shape, slices=12)
