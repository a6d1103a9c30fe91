"""The Grafana dashboard is well made; test_scrape.py asks a server for what it shows."""

from __future__ import annotations

import pytest

from tests.serve.dashboard import asked_metrics, expressions, names, panels
from tests.serve.scripted import info
from vivace.core.stats import EngineStats
from vivace.serve.metrics import ServerMetrics

pytestmark = pytest.mark.tiny


def test_every_own_metric_is_on_the_dashboard() -> None:
    """A metric that is not worth a panel is not worth its name, but for the parts of a sum."""
    metrics = ServerMetrics("m", info())
    own = {n for n in names(metrics.render(EngineStats()).decode()) if n.startswith("vivace:")}
    left_out = {
        n
        for n in own - asked_metrics()
        if not n.endswith(("_bucket", "_sum", "_count", "_created"))
    }
    assert left_out == {
        "vivace:kv_pages_fetched_used_total",
        "vivace:kv_pages_fetched_wasted_total",
        "vivace:kv_pages_pinned",
        "vivace:steps_total",
    }


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


def test_expressions_are_balanced() -> None:
    for expression in expressions():
        for opening, closing in ("()", "[]", "{}"):
            assert expression.count(opening) == expression.count(closing), expression
