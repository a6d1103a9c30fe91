"""How long a request stood in the queue goes out with its first token."""

from __future__ import annotations

import pytest
from paged_model import Engine

from vivace.cache.blocks import KVGroup
from vivace.core.request import Request
from vivace.core.sampling import SamplingParams
from vivace.scheduler.scheduler import SchedulerConfig

pytestmark = pytest.mark.tiny


def test_it_ends_when_the_request_first_runs() -> None:
    engine = Engine([KVGroup(20)], SchedulerConfig(max_num_seqs=1))
    params = SamplingParams(max_tokens=3, ignore_eos=True)
    engine.add([Request("a", (1, 2), params), Request("b", (1, 2), params)])
    found: dict[str, list[float | None]] = {"a": [], "b": []}
    while engine.scheduler.has_work:
        for delta in engine.step():
            found[delta.request_id].append(delta.queue_seconds)
    assert found == {"a": [0.0, None, None], "b": [3.0, None, None]}
