"""The measuring itself: prepare, load, warm up, and time round by round."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peers import models
from peers.contenders import Contender
from peers.environments import PEERS, AbsentError, install, log_file
from peers.limits import Limits
from peers.tasks import START_PROMPT, Task
from peers.worker import Worker
from workers.protocol import Job, WorkerError

from vivace.hardware.machine import detect

WARM_UPS = 2
SPARE_LENGTH = 512  # tokens that the first sequences decode while the last ones are filled
SLOW_START_SECONDS = 20.0  # whoever takes longer is started once, not every round


@dataclass(frozen=True)
class Plan:
    """What one run of the comparison does; `tasks` may be empty, `starts` asks for start times."""

    preset: str
    rounds: int
    threads: int
    isa: str
    tasks: tuple[Task, ...]
    starts: bool

    @property
    def level(self) -> str:
        """The instructions whose peaks are the limit."""
        best = detect().isa
        return "avx512" if self.isa == "avx512" and best == "amx" else best

    def job(self, contender: Contender, sequences: int) -> Job:
        longest = max((task.length for task in self.tasks), default=START_PROMPT)
        return Job(
            str(models.build(self.preset, contender.model)),
            contender.format,
            self.threads,
            sequences,
            min(longest + SPARE_LENGTH, models.max_length(self.preset)),
            self.isa,
            WARM_UPS + self.rounds,
        )


@dataclass
class Results:
    """Of one contender.

    Attributes:
        absent: why it could not be measured, or None.
        about: versions and settings, as its worker told them.
        bytes_per_weight: of the model's files; who rounds as it loads tells its own in `about`.
        absent_tasks: why it could not do one of the tasks.
        rates: tokens per second by task and round.
        starts: by round, {"load_seconds", "first_token_seconds", "peak_bytes"}.
    """

    contender: Contender
    absent: str | None = None
    about: dict[str, Any] = field(default_factory=dict)
    bytes_per_weight: float | None = None
    rates: dict[str, list[float]] = field(default_factory=dict)
    absent_tasks: dict[str, str] = field(default_factory=dict)
    starts: list[dict[str, float]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        values = {name: value for name, value in vars(self).items() if name != "contender"}
        values["bytes_per_weight"] = self.about.get("bytes_per_weight", self.bytes_per_weight)
        return {"peer": self.contender.peer, "kind": self.contender.kind, **values}


def prepare(contenders: Iterable[Contender], preset: str) -> dict[str, Results]:
    """Install, make the models, and say who is absent."""
    results = {}
    models.hugging_face(preset)
    for contender in contenders:
        results[contender.name] = one = Results(contender)
        try:
            install(contender.peer)
            models.build(preset, contender.model)
            size = models.weight_bytes(preset, contender.model)
            one.bytes_per_weight = size / models.num_parameters(preset)
        except AbsentError as error:
            one.absent = str(error)
            report(f"{contender.name} is absent: {error}")
    return results


def open_worker(plan: Plan, contender: Contender, sequences: int) -> Worker:
    variables = PEERS[contender.peer].variables(plan.threads)
    if plan.isa == "avx512":
        variables |= contender.no_amx_variables
    return Worker(
        contender.worker,
        plan.job(contender, sequences),
        PEERS[contender.peer].python,
        variables,
        log_file(contender.name.replace(" ", "-")),
    )


# --- measuring ------------------------------------------------------------------------------------


def time_starts(plan: Plan, group: list[Results]) -> None:
    """From starting a process to its first token, and the most memory it took."""
    for done in range(plan.rounds + 1):  # the first one warms the file cache
        for one in present(group):
            slow = one.starts and one.starts[0]["first_token_seconds"] > SLOW_START_SECONDS
            if slow:
                continue
            try:
                one.starts.append(start(plan, one))
            except WorkerError as error:
                one.absent = f"it did not start: {error}"
        report(f"start {done} of {plan.rounds}")
    for one in group:
        one.starts = one.starts[1:] or one.starts


def start(plan: Plan, one: Results) -> dict[str, float]:
    with open_worker(plan, one.contender, 1) as worker:
        one.about = worker.about
        first = worker.call("prefill", START_PROMPT)
        return {
            "load_seconds": worker.about["load_seconds"],
            "first_token_seconds": worker.ready_seconds + first,
            "peak_bytes": worker.call("peak_memory"),
        }


def time_tasks(plan: Plan, group: list[Results], limits: Limits) -> None:
    """All contenders of a group stay loaded; each round times every task of each."""
    sequences = max((task.numbers[0] for task in plan.tasks if task.kind == "decode"), default=1)
    with ExitStack() as stack:
        workers = {}
        for one in present(group):
            report(f"{one.contender.name}: loading, filling caches")
            try:
                worker = open_worker(plan, one.contender, sequences)
                workers[one.contender.name] = stack.enter_context(worker)
                one.about = worker.about
                warm_up(worker, one, plan.tasks)
            except WorkerError as error:
                one.absent = f"it could not be measured: {error}"
        for done in range(plan.rounds):
            for task in plan.tasks:
                limits.measure(task.name)
                for one in turns(group, task, done):
                    time_once(workers[one.contender.name], one, task)
            report(f"round {done + 1} of {plan.rounds}")


def warm_up(worker: Worker, one: Results, tasks: tuple[Task, ...]) -> None:
    """A task that fails here is left out, with its reason.

    Raises:
        WorkerError: the worker has ended.
    """
    for task in tasks:
        failure = tried(worker, task)
        if failure is None:
            one.rates[task.name] = []
        else:
            one.absent_tasks[task.name] = failure


def tried(worker: Worker, task: Task) -> str | None:
    """Why the worker cannot do a task, or None."""
    try:
        for _ in range(WARM_UPS):
            worker.call(task.kind, *task.numbers)
    except WorkerError as error:
        if worker.has_ended:
            raise
        return str(error)
    return None


def turns(group: list[Results], task: Task, done: int) -> list[Results]:
    """Who is timed, in order: another one goes first in every round, so that nobody always comes
    after the same one."""
    able = [one for one in present(group) if task.name in one.rates]
    first = done % max(len(able), 1)
    return able[first:] + able[:first]


def time_once(worker: Worker, one: Results, task: Task) -> None:
    try:
        one.rates[task.name].append(task.rate(worker.call(task.kind, *task.numbers)))
    except WorkerError as error:
        one.absent = f"it failed in {task.name}: {error}"


def present(group: Iterable[Results]) -> list[Results]:
    return [one for one in group if one.absent is None]


def compare(plan: Plan, groups: Iterable[Sequence[Contender]]) -> dict[str, Any]:
    """The whole run; everything behind the tables. Who stands in one group is interleaved."""
    groups = list(groups)
    limits = Limits(plan.level, plan.threads)
    results = prepare([one for group in groups for one in group], plan.preset)
    for members in groups:
        group = [results[member.name] for member in members]
        if plan.starts:
            time_starts(plan, group)
        if plan.tasks:
            time_tasks(plan, group, limits)
    machine = detect()
    return {
        "preset": plan.preset,
        "parameters": models.num_parameters(plan.preset),
        "rounds": plan.rounds,
        "threads": plan.threads,
        "isa": plan.isa,
        "machine": {"cpu": cpu_name(), "isa": machine.isa, "cores": machine.cores},
        "limits": limits.measured,
        "limits_absent": limits.absent,
        "contenders": {name: one.as_json() for name, one in results.items()},
    }


def report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def cpu_name() -> str:
    """As the system calls it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"
