"""The benchmark of structured output runs, and what it asks for in small is what it gets."""

from __future__ import annotations

from tests.bench.scripts import run


def test_forms_refusals_and_throughput() -> None:
    result = run("structured.py", "--short", "--rounds", "1")
    for one in result["validity"].values():
        assert one["wrong"] == 0, one["examples"]
        assert one["reasons"]["stop"] > 0.5 * one["asked"]
    assert all(one["refused"] and one["beside"] for one in result["refusals"].values())
    (mini,) = result["throughput"].values()
    assert set(mini) == {"1", "2"}
    assert all(one["share"] > 0 for one in mini.values())
