"""What the server's process and its machine took, whatever models it serves: told once."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric

from vivace.hardware.energy import EnergyMeter
from vivace.serve.engine_metrics import CPU_SECONDS, CPU_TEXT

JOULES = "Energy that the whole machine took, by RAPL domain."


class ProcessMetrics(CollectorRegistry):
    """No label names a model, so that sums over models count it once.

    Args:
        energy: None makes one of this machine.
    """

    def __init__(self, energy: EnergyMeter | None = None) -> None:
        super().__init__()
        self._energy = energy or EnergyMeter()

    def collect(self) -> Iterator[Metric]:
        seconds = CounterMetricFamily(CPU_SECONDS, CPU_TEXT, labels=("process",))
        seconds.add_metric(("server",), time.process_time())
        yield seconds
        if joules := self._energy.joules():
            energy = CounterMetricFamily("vivace:energy_joules", JOULES, labels=("domain",))
            for domain, value in joules.items():
                energy.add_metric((domain,), value)
            yield energy

    def render(self) -> bytes:
        """Prometheus text."""
        return generate_latest(self)
