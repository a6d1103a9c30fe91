"""The comparisons with peers run, on a model too small to mean anything."""

from __future__ import annotations

import pytest

from tests.bench.scripts import run


@pytest.mark.oracle
def test_beside_transformers() -> None:
    result = run("transformers_cpu.py", "--models", "tiny", "--rounds", "1", "--threads", "1")
    tiny = result["models"]["tiny"]
    for task in ("prefill", "decode"):
        rates = tiny[task]["tokens_per_second"]
        assert set(rates) == {"vivace", "transformers"}
        assert all(rate > 0 for rate in rates.values())
        assert len(tiny[task]["ratio_by_round"]) == 1


def test_startup() -> None:
    result = run("startup.py", "--rounds", "1")
    assert 0 < result["help_seconds"] < result["first_token_seconds"]
