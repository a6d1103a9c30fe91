"""How the rows about serving judge what their programs printed."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.tiny


@pytest.mark.parametrize(
    ("told", "holds"),
    [
        ([(-3.0, True), (-5.0, False)], True),
        ([(-3.002, True), (-5.0, False)], False),
        ([(-3.0, False), (-5.0, False)], False),
    ],
)
def test_lm_eval_must_say_what_the_logits_say(told: list[Any], holds: bool) -> None:
    from claims.robustness import lm_eval

    own = [(-3.0001, True), (-5.0, False)]
    assert lm_eval({"absent": None, "told": told, "own": own}).holds is holds
    assert lm_eval({"absent": "lm-eval (no network)"}).absent == "lm-eval (no network)"


def schema(**changes: Any) -> dict[str, Any]:
    result = {"cases": 20_010, "operations": 29, "failed": False, "idle_afterwards": True}
    result["requests_run"] = 900.0
    return {"absent": None, **result, **changes}


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, True),
        ({"cases": 19_999}, False),
        ({"failed": True}, False),
        ({"idle_afterwards": False}, False),
    ],
)
def test_enough_cases_without_a_failure(changes: dict[str, Any], holds: bool) -> None:
    from claims.robustness import schema as judge

    assert judge(schema(**changes)).holds is holds


def wire(**changes: Any) -> dict[str, Any]:
    return {
        "connections": 3_000,
        "streams_beside": 20,
        "streams_changed": 0,
        "idle_afterwards": True,
        "restarts": 0.0,
        "open_files": {"before": {"server": 9}, "after": {"server": 9}},
        "resident_bytes": {
            "before": {"server": 100, "engine": 100},
            "after": {"server": 104, "engine": 100},
        },
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, True),
        ({"streams_changed": 1}, False),
        ({"streams_beside": 0}, False),
        ({"restarts": 1.0}, False),
        ({"open_files": {"before": {"server": 9}, "after": {"server": 10}}}, False),
        (
            {
                "resident_bytes": {
                    "before": {"server": 100, "engine": 100},
                    "after": {"server": 100, "engine": 110},
                }
            },
            False,
        ),
    ],
)
def test_broken_connections_leave_nothing(changes: dict[str, Any], holds: bool) -> None:
    from claims.robustness import wire as judge

    assert judge(wire(**changes)).holds is holds


def soak(**changes: Any) -> dict[str, Any]:
    return {
        "minutes": 20.0,
        "requests": {"streams": 5},
        "wrong": 0,
        "restarts": 0.0,
        "idle_afterwards": True,
        "server_bytes": [100.0, 101.0],
        "engine_bytes": [100.0, 102.0],
        "p99_first_token": [0.4, 0.5],
        "p99_between_tokens": [0.1, 0.09],
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, True),
        ({"minutes": 3.0}, False),
        ({"wrong": 1}, False),
        ({"engine_bytes": [100.0, 102.1]}, False),
        ({"p99_first_token": [0.4, 0.51]}, False),
        ({"idle_afterwards": False}, False),
    ],
)
def test_a_long_load_changes_nothing(changes: dict[str, Any], holds: bool) -> None:
    from claims.robustness import soak as judge

    assert judge(soak(**changes)).holds is holds


@pytest.mark.parametrize(
    ("rate", "events", "holds"), [(3000.0, 1.0, True), (2999.0, 1.0, False), (9000.0, 0.5, False)]
)
def test_tokens_that_were_put_together_do_not_count(
    rate: float, events: float, holds: bool
) -> None:
    from claims.robustness import frontend

    ours = {
        "tokens_per_cpu_second": rate,
        "events_per_token": events,
        "us_per_token": 1e6 / rate,
        "us_per_request": 900.0,
    }
    servers = {"vivace": ours, "vLLM": {"absent": "it did not install"}}
    outcome = frontend({"servers": servers})
    assert outcome.holds is holds
    assert outcome.absent is None
    assert "did not install" in outcome.measured


def structured(**changes: Any) -> dict[str, Any]:
    """What structured.py prints where all is well, with parts of it changed by their paths."""
    result: dict[str, Any] = {
        "validity": {
            name: {"asked": asked, "reasons": {"stop": asked}, "wrong": 0}
            for name, asked in (("schemas", 1000), ("patterns", 100), ("grammars", 50))
        },
        "refusals": {"large": {"seconds": 10.1, "refused": True, "beside": True}},
        "throughput": {"mini": {"1": {"share": 0.5}}, "0.35b": {"1": {"share": 0.9}}},
    }
    for path, value in changes.items():
        *parents, last = path.split("/")
        place = result
        for name in parents:
            place = place[name]
        place[last] = value
    return result


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, True),
        ({"validity/schemas/asked": 999}, False),
        ({"validity/schemas/wrong": 1}, False),
        ({"validity/grammars/wrong": 1}, False),
        ({"validity/patterns/reasons": {"stop": 95, "length": 5}}, True),
        ({"validity/patterns/reasons": {"stop": 94, "error": 6}}, False),
        ({"refusals/large/seconds": 13.0}, False),
        ({"refusals/large/refused": False}, False),
        ({"refusals/large/beside": False}, False),
        ({"throughput/0.35b/1": {"share": 0.89}}, False),
        ({"throughput": {"mini": {"1": {"share": 1.0}}}}, False),
    ],
    ids=str,
)
def test_structured_output_is_valid_ends_and_is_cheap(changes: dict[str, Any], holds: bool) -> None:
    from claims.structured import structured as judge

    assert judge(structured(**changes)).holds is holds
