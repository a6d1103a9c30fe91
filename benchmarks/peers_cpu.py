"""vivace and its peers on the same random-weight model, interleaved in one run.

    python benchmarks/peers_cpu.py [--rounds 5] [--rows ...] [--contenders ...] [--isa avx512]

Each peer is installed from PyPI into an environment of its own and given the model in its own
format; each contender is a process that holds its model and is stopped between its turns. In a
round, every task is timed once for every contender, one right after the other, and the machine's
limits with them. Prints one JSON object; one that cannot be installed or run is absent, with the
reason. With --isa avx512 all run without AMX.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection

from peers import models
from peers.compare import WARM_UPS, Plan, compare
from peers.contenders import CONTENDERS, GROUPS, Contender
from peers.environments import PEERS
from peers.tasks import ALL, START, TASKS

from vivace.hardware.machine import usable_cores


def minutes(plan: Plan, contenders: list[Contender]) -> int:
    """About how long it takes, once all is installed."""
    load = 0.5 + (1.5 if any(one.peer == "vllm" for one in contenders) else 0)
    each = 0.03 * (plan.rounds + WARM_UPS) * len(plan.tasks) + plan.starts * 0.05 * plan.rounds
    return round(load + len(contenders) * each + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description="vivace beside its peers on this machine's CPU.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--isa", choices=("native", "avx512"), default="native")
    parser.add_argument("--peers", nargs="+", choices=tuple(PEERS), default=tuple(PEERS))
    parser.add_argument(
        "--contenders",
        nargs="+",
        choices=CONTENDERS,
        metavar="NAME",
        help="these, all held in memory side by side (else those of a kind)",
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        choices=(*TASKS, START),
        metavar="ROW",
        help=f"of {', '.join((*TASKS, START))}",
    )
    parser.add_argument("--preset", default="1.1b", choices=models.PRESETS)
    given = parser.parse_args()
    rows = given.rows or (*(task.name for task in ALL), START)
    tasks = tuple(TASKS[row] for row in rows if row != START)
    plan = Plan(given.preset, given.rounds, given.threads, given.isa, tasks, START in rows)
    groups = chosen(given.contenders, given.peers)
    takes = minutes(plan, [one for group in groups for one in group])
    print(f"This takes about {takes} minutes once all is installed.", file=sys.stderr, flush=True)
    print(json.dumps(compare(plan, groups), indent=1))


def chosen(names: list[str] | None, peers: Collection[str]) -> list[list[Contender]]:
    """Who is named stands in one group; without names, those of a kind do."""
    groups = GROUPS if names is None else [[CONTENDERS[name] for name in names]]
    kept = [[one for one in group if one.peer in peers] for group in groups]
    return [group for group in kept if group]


if __name__ == "__main__":
    main()
