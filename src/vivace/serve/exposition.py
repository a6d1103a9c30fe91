"""What several models tell Prometheus, as one text: it takes each family once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from vivace.serve.engine_metrics import ENGINE, LABELS


def merged(texts: Iterable[bytes]) -> bytes:
    """Texts in the exposition format, whose samples differ in their labels, as one."""
    families: dict[bytes, list[bytes]] = {}
    for text in texts:
        lines: list[bytes] = []
        known = False
        for line in text.splitlines(keepends=True):
            if line.startswith(b"# HELP "):
                family = line.split(b" ", 3)[2]
                known = family in families
                lines = families.setdefault(family, [])
            if not (known and line.startswith(b"#")):
                lines.append(line)
    return b"".join(line for lines in families.values() for line in lines)


def loaded_models(states: Mapping[str, str]) -> bytes:
    """Which models are loaded, as a text of that format."""
    return generate_latest(_States(states))


class _States(CollectorRegistry):
    def __init__(self, states: Mapping[str, str]) -> None:
        super().__init__()
        self._states = states

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "vivace:model_loaded", "Whether a model is loaded.", labels=LABELS
        )
        for name, state in self._states.items():
            family.add_metric((name, ENGINE), float(state == "loaded"))
        yield family
