"""The Grafana dashboard, and what it asks for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

_FILE = Path(__file__).parents[2] / "dashboards" / "grafana.json"
_NAME = re.compile(r"\b(?:vllm|vivace):\w+")


def panels() -> list[dict[str, Any]]:
    found = json.loads(_FILE.read_text())["panels"]
    assert isinstance(found, list)
    return found


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel.get("targets", ())]


def asked_metrics() -> set[str]:
    return {name for expression in expressions() for name in _NAME.findall(expression)}


def names(text: str) -> set[str]:
    """Of every sample in Prometheus text."""
    return {m[0] for line in text.splitlines() if line[0] != "#" and (m := _NAME.match(line))}
