"""Schemathesis against the server's own description of itself.

    python benchmarks/schema_fuzz.py [--cases 20000]

A tiny random model stands behind the server, with a context so short that every answer is quick;
what administrators may do is asked with their key.
Prints one JSON object: how many cases were sent, and what schemathesis said of them.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from own_server import OwnServer, own_server
from peers.environments import PEERS, ROOT, AbsentError, install

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
MODEL, KEY = "tiny", "root"
OPTIONS = ("--max-model-len", "128", "--kv-memory", "8MiB", "--admin-key", KEY)
OPTIONS += ("--served-model-name", MODEL)
SCHEMA = "openapi.json"
CLOSING = "^/(drain|resume)$"
COUNTED = re.compile(r"(\d[\d,]*) generated")


def main() -> None:
    parser = argparse.ArgumentParser(description="Schemathesis against the server.")
    parser.add_argument("--cases", type=int, default=20_000)
    given = parser.parse_args()
    try:
        install("schemathesis")
    except AbsentError as error:
        print(json.dumps({"absent": f"schemathesis ({error})"}))
        return
    sys.path.insert(0, str(ROOT))
    from tests.serve.checkpoint import write_tiny_chat_model

    with TemporaryDirectory() as folder:
        model = write_tiny_chat_model(Path(folder))
        with own_server(str(model), *OPTIONS) as server:
            result = fuzz(server, given.cases)
            result["idle_afterwards"] = server.is_idle()
    print(json.dumps({"absent": None, **result}))


def fuzz(server: OwnServer, cases: int) -> dict[str, object]:
    document = of_known_model(json.loads(server.get("/openapi.json")))
    operations = sum(len(path) for path in document["paths"].values())
    each = -(-cases // operations) + 1
    with TemporaryDirectory() as folder:
        Path(folder, SCHEMA).write_text(json.dumps(document))
        # Asked last: while a server drains it refuses everything else.
        runs = [
            run(server.url, folder, each, "--exclude-path-regex", CLOSING),
            run(server.url, folder, each, "--include-path-regex", CLOSING),
        ]
    return {
        "operations": operations,
        "cases": sum(map(counted, runs)),
        "requests_run": sum(server.samples("vllm:request_success_total")),
        "failed": any(run.returncode != 0 for run in runs),
        "output": [run.stdout[-6000:] for run in runs],
    }


def of_known_model(document: dict[str, Any]) -> dict[str, Any]:
    """The description, in which `model` names one that is served: others get no further than a
    404."""
    for schema in document["components"]["schemas"].values():
        if "model" in schema.get("properties", {}):
            schema["properties"]["model"] = {"enum": [MODEL]}
    return document


def run(url: str, folder: str, each: int, *chosen: str) -> subprocess.CompletedProcess[str]:
    """Schemathesis on the operations that are chosen; it writes down there what failed."""
    program = PEERS["schemathesis"].python.parent / "schemathesis"
    command = [str(program), "run", SCHEMA, "--url", url, "--seed", "1", "--no-color", *chosen]
    command += ["-H", f"Authorization: Bearer {KEY}", "--checks", ",".join(CHECKS)]
    command += ["--max-examples", str(each), "--workers", "2", "--continue-on-failure"]
    command += ["--generation-database", "none"]
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)


def counted(done: subprocess.CompletedProcess[str]) -> int:
    found = COUNTED.search(done.stdout)
    return int(found[1].replace(",", "")) if found else 0


if __name__ == "__main__":
    main()
