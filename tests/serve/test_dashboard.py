"""The Grafana dashboard asks for nothing that a server does not have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serve.scripted import info
from vivace.core.stats import EngineStats
from vivace.serve.metrics import ServerMetrics

DASHBOARD = Path(__file__).parents[2] / "dashboards" / "grafana.json"
# What only some machines count, and what only models with a canary have.
SOMETIMES = {"vivace:energy_joules_total", "vivace:canary_kl_nats"}
NAME = re.compile(r"\b(?:vllm|vivace):\w+")


def panels() -> list[dict[str, Any]]:
    found = json.loads(DASHBOARD.read_text())["panels"]
    assert isinstance(found, list)
    return found


def expressions() -> Iterator[str]:
    for panel in panels():
        for target in panel.get("targets", ()):
            yield target["expr"]


def names(text: str) -> set[str]:
    """Of every sample in Prometheus text."""
    return {m[0] for line in text.splitlines() if line[0] != "#" and (m := NAME.match(line))}


def test_every_metric_of_the_dashboard_is_on_a_server(url: str) -> None:
    body = {"prompt": "ab", "max_tokens": 3}
    assert httpx.post(f"{url}/v1/completions", json=body, timeout=60).status_code == 200
    there = names(httpx.get(f"{url}/metrics").text)
    asked = {name for expression in expressions() for name in NAME.findall(expression)}
    assert asked - there - SOMETIMES == set()
    assert len(asked) > 20


@pytest.mark.tiny
def test_every_own_metric_is_on_the_dashboard() -> None:
    """A metric that is not worth a panel is not worth its name, but for the parts of a sum."""
    metrics = ServerMetrics("m", info())
    asked = {name for expression in expressions() for name in NAME.findall(expression)}
    own = {n for n in names(metrics.render(EngineStats()).decode()) if n.startswith("vivace:")}
    left_out = {n for n in own - asked if not n.endswith(("_bucket", "_sum", "_count", "_created"))}
    assert left_out == {
        "vivace:kv_pages_fetched_used_total",
        "vivace:kv_pages_fetched_wasted_total",
        "vivace:kv_pages_pinned",
        "vivace:steps_total",
    }


@pytest.mark.tiny
def test_panels_do_not_cover_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())


@pytest.mark.tiny
def test_expressions_are_balanced() -> None:
    for expression in expressions():
        for opening, closing in ("()", "[]", "{}"):
            assert expression.count(opening) == expression.count(closing), expression
