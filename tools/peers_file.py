"""Merge a run of the comparison into the file that keeps them all.

    python benchmarks/peers_cpu.py ... > run.json
    python tools/peers_file.py proofs/peers-native.json < run.json

Figures are kept by contender and task, each with the hash of the sources it was made on, its date
and its rounds. A run replaces what it measured, and all of a contender that has become absent; a
run on another machine, or of another model, replaces the file.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from claims.sources import sources_hash

Run = dict[str, Any]
SAME = ("preset", "threads", "isa", "machine")
START = "start"


def merged(old: Run | None, new: Run, made: dict[str, Any]) -> Run:
    """Args:
    made: {"sources", "date", "rounds"} of the new run.
    """
    if old is None or any(old[key] != new[key] for key in SAME):
        return merged({**new, "limits": [], "contenders": {}}, new, made)
    timed = {task for one in new["contenders"].values() for task in one["rates"]}
    kept = [limit for limit in old["limits"] if limit["task"] not in timed]
    contenders = {
        name: merged_contender(old["contenders"].get(name), one, made)
        for name, one in new["contenders"].items()
    }
    return {
        **new,
        "limits": [*kept, *new["limits"]],
        "contenders": {**old["contenders"], **contenders},
    }


def merged_contender(old: Run | None, new: Run, made: dict[str, Any]) -> Run:
    tried = [*new["rates"], *new["absent_tasks"], *([START] if new["starts"] else [])]
    stamps = dict.fromkeys(tried, made)
    if old is None or old["absent"] is not None or new["absent"] is not None:
        return {**new, "made": stamps}
    kept = {
        key: {task: value for task, value in old[key].items() if task not in tried}
        for key in ("rates", "absent_tasks")
    }
    return {
        **new,
        **{key: {**values, **new[key]} for key, values in kept.items()},
        "about": {**old["about"], **new["about"]},
        "starts": new["starts"] or old["starts"],
        "made": {**old["made"], **stamps},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Keep a run of the comparison with the peers.")
    parser.add_argument("file", type=Path)
    file = parser.parse_args().file
    new = json.load(sys.stdin)
    old = json.loads(file.read_text()) if file.exists() else None
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    made = {"sources": sources_hash(), "date": date, "rounds": new["rounds"]}
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(merged(old, new, made), indent=1) + "\n")


if __name__ == "__main__":
    main()
