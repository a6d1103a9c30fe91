"""Schemathesis against the server's own description of itself.

    python benchmarks/schema_fuzz.py [--cases 20000]

A tiny random model stands behind the server, with a context so short that every answer is quick.
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

from own_server import OwnServer, own_server
from peers.environments import PEERS, ROOT, AbsentError, install

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
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
        with own_server(str(model), "--max-model-len", "128", "--kv-memory", "8MiB") as server:
            result = fuzz(server, given.cases)
            result["idle_afterwards"] = server.is_idle()
    print(json.dumps({"absent": None, **result}))


def fuzz(server: OwnServer, cases: int) -> dict[str, object]:
    document = json.loads(server.get("/openapi.json"))
    operations = sum(len(path) for path in document["paths"].values())
    program = PEERS["schemathesis"].python.parent / "schemathesis"
    command = [str(program), "run", f"{server.url}/openapi.json", "--seed", "1", "--no-color"]
    command += ["--checks", ",".join(CHECKS), "--max-examples", str(-(-cases // operations) + 1)]
    command += ["--continue-on-failure", "--generation-database", "none", "--workers", "2"]
    with TemporaryDirectory() as folder:  # it writes down what failed
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
    counted = COUNTED.search(done.stdout)
    return {
        "operations": operations,
        "cases": int(counted[1].replace(",", "")) if counted else 0,
        "failed": done.returncode != 0,
        "output": done.stdout[-6000:],
    }


if __name__ == "__main__":
    main()
