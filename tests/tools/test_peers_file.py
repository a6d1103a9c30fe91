"""What the file of the comparison keeps when a part of it is measured anew."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.tiny

OLD = {"sources": "old", "date": "monday", "rounds": 5}
NEW = {"sources": "new", "date": "tuesday", "rounds": 3}


def contender(*tasks: str, absent: str | None = None, starts: int = 0) -> dict[str, Any]:
    return {
        "absent": absent,
        "absent_tasks": {},
        "rates": {task: [1.0] for task in tasks},
        "starts": [{"peak_bytes": 1.0}] * starts,
        "about": {},
    }


def run(*limits: str, threads: int = 2, **contenders: dict[str, Any]) -> dict[str, Any]:
    return {
        **{"preset": "tiny", "threads": threads, "isa": "native", "machine": {}},
        "limits": [{"task": task} for task in limits],
        "contenders": contenders,
    }


def test_figures_are_replaced_by_contender_and_task() -> None:
    from peers_file import merged

    first = merged(None, run("a", "b", x=contender("a", "b", starts=1), y=contender("a")), OLD)
    second = merged(first, run("b", "c", x=contender("b", "c")), NEW)
    assert second["contenders"]["x"]["made"] == {"a": OLD, "b": NEW, "c": NEW, "start": OLD}
    assert set(second["contenders"]["x"]["rates"]) == {"a", "b", "c"}
    assert second["contenders"]["x"]["starts"] == first["contenders"]["x"]["starts"]
    assert second["contenders"]["y"] == first["contenders"]["y"]
    assert [limit["task"] for limit in second["limits"]] == ["a", "b", "c"]


def test_a_task_that_fails_now_keeps_no_old_figure() -> None:
    from peers_file import merged

    first = merged(None, run("a", "b", x=contender("a", "b")), OLD)
    failed = {**contender(), "absent_tasks": {"a": "too long"}}
    second = merged(first, run("a", x=failed), NEW)["contenders"]["x"]
    assert (set(second["rates"]), second["absent_tasks"]) == ({"b"}, {"a": "too long"})
    third = merged({**first, "contenders": {"x": second}}, run("a", x=contender("a")), NEW)
    assert third["contenders"]["x"]["absent_tasks"] == {}


def test_who_has_become_absent_keeps_nothing() -> None:
    from peers_file import merged

    first = merged(None, run("a", x=contender("a")), OLD)
    second = merged(first, run(x=contender(absent="it does not install")), NEW)
    assert second["contenders"]["x"]["rates"] == {}
    third = merged(second, run("a", x=contender("a")), NEW)
    assert third["contenders"]["x"]["absent"] is None


def test_another_machine_begins_anew() -> None:
    from peers_file import merged

    first = merged(None, run("a", x=contender("a"), y=contender("a")), OLD)
    second = merged(first, run("a", threads=4, x=contender("a")), NEW)
    assert set(second["contenders"]) == {"x"}
