"""Workers: what they cannot do is an error in their words, and idle ones take no time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vivace.bench.random_model import PRESETS, write_random_model

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from peers.process_group import ProcessGroup
from peers.worker import Worker
from workers.protocol import Job, WorkerError, mixed_lengths


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder = write_random_model(tmp_path_factory.mktemp("model"), PRESETS["tiny"])
    log = tmp_path_factory.mktemp("logs") / "worker.txt"
    with Worker("vivace_worker.py", Job(str(folder), sequences=4, max_len=600), log=log) as found:
        yield found


def state(pid: int) -> str:
    """As in /proc/PID/stat: T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_idle_worker_is_stopped(worker: Worker) -> None:
    assert state(worker.pid) == "T"
    assert worker.call("decode", 2, 32, 3) > 0
    assert state(worker.pid) == "T"


def test_a_task_that_fails_harms_no_other(worker: Worker) -> None:
    with pytest.raises(WorkerError, match="context"):
        worker.call("prefill", 100_000)
    assert worker.call("prefill", 20) > 0


def test_a_model_that_does_not_load_says_why(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="nowhere"):
        Worker("vivace_worker.py", Job(str(tmp_path / "nowhere")), log=tmp_path / "log.txt")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_group_stands_still_with_all_its_processes() -> None:
    command = ["sh", "-c", "sleep 60 & echo $!; wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=os.setpgrp) as first:
        group = ProcessGroup(first)
        assert first.stdout is not None
        child = int(first.stdout.readline())
        group.stop()
        assert (state(first.pid), state(child)) == ("T", "T")
        group.resume()
        assert state(child) != "T"
        group.end(10)
        assert group.has_ended


def test_mixed_lengths_are_the_same_for_all_and_differ_among_requests() -> None:
    lengths = mixed_lengths(0, 64)
    assert mixed_lengths(40, 24) == lengths[40:]
    assert all(16 <= prompt <= 256 and 8 <= answer <= 256 for prompt, answer in lengths)
    assert len(set(lengths)) > 60
