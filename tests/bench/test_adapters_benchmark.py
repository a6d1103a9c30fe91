"""The benchmark of adapters runs, and its adapters are loaded."""

from __future__ import annotations

from tests.bench.scripts import run


def test_every_number_of_adapters_is_measured() -> None:
    result = run("adapters.py", "--short", "--rounds", "1")
    assert set(result["shares"]) == {"0", "1", "2"}
    assert result["shares"]["0"] == 1
    assert all(rate > 0 for rates in result["rates"].values() for rate in rates)
