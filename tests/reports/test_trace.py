"""A run's plan and a measured step as a Chrome trace: every phase, and every region while it lives."""

import json

import pytest
from cli_tools import SMALL, one_error_line

from tinyfoa_np.reports import record


def test_a_trace_shows_the_plan_and_a_step(run):
    assert run("train", "digits", *SMALL, "--quiet", "--out", "r", "--threads", "1")[0] == 0
    code, out, err = run("plot", "r", "--kind", "trace", "--layer", "1", "--out", "x.json")
    assert (code, out.strip(), err) == (0, "x.json", "")
    with open("x.json") as file:
        events = json.load(file)["traceEvents"]
    plan = record.read("r").plans[0]
    phases = [event for event in events if event["ph"] == "X" and event["pid"] == 1]
    names = [event["name"] for event in phases]
    assert names[0] == "load" and names[-1] == "update" and {"forward", "gradient"} <= set(names)
    assert all(a["ts"] + a["dur"] == pytest.approx(b["ts"]) for a, b in zip(phases, phases[1:]))
    for region in plan.regions:
        shown = [event for event in events if event["ph"] == "X" and event["pid"] == 2 and event["name"] == region.name]
        assert len(shown) == sum(region.lives(name) for name in names)
        assert all(event["args"]["offset"] == plan.offsets[region.name] for event in shown)
        assert all(event["args"]["bytes"] == region.nbytes for event in shown)
    counted = [event["args"]["live"] for event in events if event["ph"] == "C"]
    assert counted == [sum(region.nbytes for region in plan.regions if region.lives(name)) for name in names]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "--out FILE.json"),
        (["--out", "x.png"], "ending in .json"),
        (["--out", "x.json", "--layer", "9"], "layer 9"),
    ],
)
def test_bad_requests(run, options, says):
    assert run("train", "digits", *SMALL, "--quiet", "--out", "r", "--threads", "1")[0] == 0
    code, out, err = run("plot", "r", "--kind", "trace", *options)
    assert (code, out) == (2, "") and says in one_error_line(err)
