"""The comparison with peers, run on a model too small to mean anything, with whoever needs no
installation; and that refusing AMX refuses it."""

from __future__ import annotations

import platform
import subprocess
import sys
from typing import Any

import pytest

from tests.bench.scripts import BENCHMARKS, run

sys.path.insert(0, str(BENCHMARKS))

import serving
from peers import limits
from peers.compare import Results, turns
from peers.contenders import GROUPS
from peers.environments import PEERS, AbsentError
from peers.tasks import TASKS

TWICE = {"prefill-128": 2, "decode-1x64": 2, "decode-4x64": 2}
ASKS_FOR_AMX = "import ctypes; print(ctypes.CDLL(None).syscall(158, 0x1023, 18))"


@pytest.mark.oracle
def test_every_task_is_timed_in_every_round() -> None:
    result = run(
        "peers_cpu.py",
        *("--preset", "tiny", "--rounds", "2", "--threads", "1"),
        *("--contenders", "vivace bfloat16", "Transformers bfloat16"),
        *("--rows", *TWICE, "start"),
    )
    assert len(result["contenders"]) == 2
    for one in result["contenders"].values():
        assert (one["absent"], one["absent_tasks"]) == (None, {})
        assert {task: len(rates) for task, rates in one["rates"].items()} == TWICE
        assert len(one["starts"]) == 2
        assert all(start["peak_bytes"] > 1e7 for start in one["starts"])
    assert {limit["task"] for limit in result["limits"]} == set(TWICE)
    assert all(limit["read"] > 1e9 for limit in result["limits"])


def test_a_start_alone_says_what_was_started() -> None:
    result = run(
        "peers_cpu.py",
        *("--preset", "tiny", "--rounds", "1", "--threads", "1"),
        *("--contenders", "vivace int4-g32", "--rows", "start"),
    )
    (one,) = result["contenders"].values()
    assert (one["absent"], one["rates"], len(one["starts"])) == (None, {}, 1)
    assert one["about"]["precision"].startswith("int4-g32")
    assert 0 < one["about"]["token_bytes"] <= one["about"]["weight_bytes"]


def test_another_one_goes_first_in_every_round() -> None:
    group = [Results(contender) for contender in GROUPS[0][:3]]
    task = TASKS["prefill-128"]
    for one in group:
        one.rates[task.name] = []
    firsts = [turns(group, task, done)[0] for done in range(6)]
    assert firsts == group * 2
    assert all(len(turns(group, task, done)) == 3 for done in range(6))
    group[1].absent = "it ended"
    assert turns(group, task, 1) == [group[2], group[0]]
    assert turns(group, TASKS["prefill-512"], 1) == []


def test_limits_that_do_not_compile_are_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise AbsentError("no compiler")

    monkeypatch.setattr(limits, "build", fail)
    found = limits.Limits("avx512", 2)
    found.measure("prefill-128")
    assert found.absent == "the limits cannot be measured here: no compiler"
    assert found.measured == []


def test_threads_of_openmp_have_cores_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_PROC_BIND", raising=False)
    assert PEERS["llama.cpp"].variables(3)["OMP_NUM_THREADS"] == "3"
    assert PEERS["llama.cpp"].variables(3)["OMP_PROC_BIND"] == "true"
    assert PEERS["vivace"].variables(3) == {}
    monkeypatch.setenv("OMP_PROC_BIND", "false")
    assert PEERS["llama.cpp"].variables(3)["OMP_PROC_BIND"] == "false"


def test_the_best_of_the_others_goes_on() -> None:
    found = {
        "vLLM W8A8": serving.Results(warm_up={"output_throughput": 90}),
        "llama.cpp Q8_0": serving.Results(warm_up={"output_throughput": 50}),
        "Transformers bfloat16": serving.Results(warm_up={"output_throughput": 40}),
    }
    serving.leave_out(found)
    assert [name for name, one in found.items() if one.left_out] == ["Transformers bfloat16"]
    found["llama.cpp Q8_0"].absent = "it ended"
    found["Transformers bfloat16"].left_out = False
    serving.leave_out(found)
    assert not any(one.left_out for one in found.values())


def test_a_peer_far_behind_is_measured_once() -> None:
    case = serving.CASES[0]
    rates = {"vivace int8": 90, "vLLM W8A8": 30, "llama.cpp Q8_0": 14, "Transformers bfloat16": 15}
    found = {name: serving.Results() for name in rates}
    assert not any(serving.is_far_behind(found, name, case) for name in found)
    for name, rate in rates.items():
        found[name].cases[case.name].append({"output_throughput": rate})
    behind = [name for name in found if serving.is_far_behind(found, name, case)]
    assert behind == ["llama.cpp Q8_0"]
    assert not serving.is_far_behind(found, "llama.cpp Q8_0", serving.CASES[1])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"completed": 3}, "only 3 of 4"),
        ({"output_tokens_counted_by_server": False}, "does not count"),
        ({"total_output_tokens": 1023}, "1023 tokens, not 1024"),
    ],
)
def test_a_server_counts_only_with_the_tokens_asked_for(
    change: dict[str, Any], reason: str
) -> None:
    good = {"completed": 4, "output_tokens_counted_by_server": True, "total_output_tokens": 1024}
    case = serving.Case(32, 256, 2, 4)
    serving.check(good, case)
    with pytest.raises(AbsentError, match=reason):
        serving.check({**good, **change}, case)


@pytest.mark.oracle
def test_mixed_lengths_beside_static_batches() -> None:
    arguments = ("--preset", "tiny", "--requests", "4", "--rounds", "2", "--threads", "1")
    result = run("mixed_trace.py", *arguments)
    rates = result["output_tokens_per_second"]
    assert list(rates) == ["vivace bfloat16", "vivace int8", "Transformers bfloat16"]
    assert [len(values) for values in rates.values()] == [2, 2, 2]
    assert all(rate > 0 for values in rates.values() for rate in values)
    assert list(result["ratios"]) == ["vivace bfloat16", "vivace int8"]


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="AMX is of x86 Linux"
)
def test_amx_is_refused() -> None:
    no_amx = str(BENCHMARKS / "workers" / "no_amx.py")
    command = [sys.executable, no_amx, sys.executable, "-c", ASKS_FOR_AMX]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "-1"
