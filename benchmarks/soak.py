"""A server at full load for a long time, with everything that clients do.

    python benchmarks/soak.py [--minutes 20] [--clients 24] [--plot FILE.svg]

Clients stream, ask for whole answers and for JSON of a schema, leave in mid-stream, bring long
prompts and send what must be refused, each one request after the other. Compared are early minutes
(of 20, the 2nd to the 6th) with the last quarter: memory of both processes, and the 99th
percentiles of the time to the first token and between tokens. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
from forms.schemas import schemas
from own_server import OwnServer, own_server

from vivace.bench.transport import LeanTransport

EARLY, LATE = (0.1, 0.3), (0.75, 1.0)  # shares of the time
SAMPLE_SECONDS = 2.0
TIMEOUT = 120.0
PATH = "/v1/completions"
FORMS = schemas(200, seed=0)  # more than the engine remembers compiled


@dataclass
class Record:
    """What was seen; times are seconds since the beginning.

    Attributes:
        firsts: (when, seconds to a stream's first token).
        gaps: (when, seconds since the token before).
        memory: (when, resident bytes of the server, of the engine).
        ended: requests by what was done and what came of it.
        wrong: what should not have happened.
    """

    began: float = field(default_factory=time.monotonic)
    firsts: list[tuple[float, float]] = field(default_factory=list)
    gaps: list[tuple[float, float]] = field(default_factory=list)
    memory: list[tuple[float, int, int]] = field(default_factory=list)
    ended: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def now(self) -> float:
        return time.monotonic() - self.began


@dataclass
class Client:
    http: httpx.AsyncClient
    record: Record
    rng: random.Random

    def asked(self, length: int, **fields: Any) -> dict[str, Any]:
        """A prompt of so many tokens, some of which others had too."""
        start = self.rng.randrange(8)
        prompt = [100 + (start + place) % 50 for place in range(length // 2)]
        prompt += [self.rng.randrange(100, 8000) for _ in range(length - len(prompt))]
        return {"prompt": prompt, "max_tokens": self.rng.randint(16, 96), **fields}

    async def streams(self, prompt: int = 64, leaves_after: int | None = None) -> None:
        """To the end, or until it leaves."""
        usage = {"include_usage": True}
        body = self.asked(prompt, stream=True, ignore_eos=True, stream_options=usage)
        sent = last = self.record.now
        events = tokens = 0
        async with self.http.stream("POST", PATH, json=body) as answer:
            self._check(answer.status_code == 200, f"status {answer.status_code}")
            async for line in answer.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                self._check(not line.startswith('data: {"error"'), line)
                if '"choices":[]' in line:
                    tokens = json.loads(line[6:])["usage"]["completion_tokens"]
                    continue
                now = self.record.now
                if events:
                    self.record.gaps.append((now, now - last))
                else:
                    self.record.firsts.append((now, now - sent))
                last = now
                events += 1
                if events == leaves_after:
                    return
        self._check(tokens == body["max_tokens"], f"{tokens} of {body['max_tokens']} tokens")

    async def leaves(self) -> None:
        await self.streams(leaves_after=self.rng.randint(1, 12))

    async def long(self) -> None:
        await self.streams(prompt=1200)

    async def whole(self) -> None:
        body = self.asked(64, n=self.rng.randint(1, 3), logprobs=2, temperature=0.8)
        answer = await self.http.post(PATH, json=body)
        self._check(answer.status_code == 200, answer.text[:200])

    async def structured(self) -> None:
        schema = self.rng.choice(FORMS)
        body = self.asked(32, structured_outputs={"json": schema}, max_tokens=384)
        answer = await self.http.post(PATH, json=body)
        self._check(answer.status_code == 200, answer.text[:200])
        (choice,) = answer.json()["choices"]
        if choice["finish_reason"] == "stop":
            value = json.loads(choice["text"], parse_float=Decimal)  # digits beyond a float count
            valid = jsonschema.Draft202012Validator(schema).is_valid(value)
            self._check(valid, f"{choice['text']} is no instance of {schema}")

    async def bad(self) -> None:
        fields = self.rng.choice(
            [{"temperature": -1}, {"surprise": 1}, {"prompt": []}, {"max_tokens": 10**6}]
        )
        answer = await self.http.post(PATH, json={**self.asked(8), **fields})
        self._check(answer.status_code == 400, f"{fields}: {answer.status_code}")

    def _check(self, holds: bool, message: str) -> None:
        if not holds:
            self.record.wrong.append(message)


# What a client may do, and how often of a hundred times.
KINDS: dict[str, tuple[Callable[[Client], Awaitable[None]], int]] = {
    "streams": (Client.streams, 45),
    "leaves": (Client.leaves, 15),
    "long": (Client.long, 10),
    "whole": (Client.whole, 10),
    "structured": (Client.structured, 10),
    "bad": (Client.bad, 10),
}


async def soak(server: OwnServer, seconds: float, num_clients: int) -> Record:
    record = Record()
    async with httpx.AsyncClient(
        base_url=server.url, transport=LeanTransport(TIMEOUT), trust_env=False
    ) as http:
        clients = [Client(http, record, random.Random(seed)) for seed in range(num_clients)]
        watching = asyncio.create_task(watch(server, record))
        await asyncio.gather(*(work(client, seconds) for client in clients))
        watching.cancel()
    return record


async def work(client: Client, seconds: float) -> None:
    names = list(KINDS)
    shares = [share for _, share in KINDS.values()]
    while client.record.now < seconds:
        (name,) = client.rng.choices(names, shares)
        try:
            await KINDS[name][0](client)
        except httpx.HTTPError as error:
            client.record.wrong.append(f"{name}: {error!r}")
        client.record.ended[name] += 1


async def watch(server: OwnServer, record: Record) -> None:
    while True:
        resident = server.resident_bytes()
        record.memory.append((record.now, resident["server"], resident["engine"]))
        await asyncio.sleep(SAMPLE_SECONDS)


def figures(record: Record, seconds: float) -> dict[str, Any]:
    """Each figure early and late."""
    return {
        "p99_first_token": p99(record.firsts, seconds),
        "p99_between_tokens": p99(record.gaps, seconds),
        "server_bytes": mean([(one[0], one[1]) for one in record.memory], seconds),
        "engine_bytes": mean([(one[0], one[2]) for one in record.memory], seconds),
    }


def p99(samples: list[tuple[float, float]], seconds: float) -> list[float]:
    return [float(np.percentile(part, 99)) for part in parts(samples, seconds)]


def mean(samples: list[tuple[float, int]], seconds: float) -> list[float]:
    return [float(np.mean(part)) for part in parts(samples, seconds)]


def parts(samples: Any, seconds: float) -> list[list[float]]:
    return [
        [value for when, value in samples if start * seconds <= when < end * seconds]
        for start, end in (EARLY, LATE)
    ]


def memory_by_minute(record: Record) -> list[list[int]]:
    """MiB of server and engine."""
    each = round(60 / SAMPLE_SECONDS)
    return [[server >> 20, engine >> 20] for _, server, engine in record.memory[::each]]


def plot(record: Record, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(8, 5))
    minutes = [when / 60 for when, _, _ in record.memory]
    above.plot(minutes, [one / 2**20 for _, one, _ in record.memory], label="server")
    above.plot(minutes, [one / 2**20 for _, _, one in record.memory], label="engine")
    above.set_ylabel("resident MiB")
    above.set_ylim(bottom=0)
    above.legend()
    last = int(record.now // 10)
    times = np.array([when for when, _ in record.gaps]) // 10
    gaps = np.array([gap for _, gap in record.gaps])
    shown = [place for place in range(last) if (times == place).any()]
    worst = [1000 * np.percentile(gaps[times == place], 99) for place in shown]
    below.plot([place / 6 for place in shown], worst)
    below.set_ylabel("p99 between tokens, ms")
    below.set_xlabel("minutes")
    below.set_ylim(bottom=0)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="A server at full load for a long time.")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    seconds = 60 * given.minutes
    with own_server("--kv-memory", "64MiB", "--max-num-seqs", "16") as server:
        record = asyncio.run(soak(server, seconds, given.clients))
        time.sleep(1)
        result = {
            "minutes": given.minutes,
            "requests": dict(record.ended),
            "events": len(record.gaps) + len(record.firsts),
            "wrong": len(record.wrong),
            "examples": record.wrong[:5],
            "idle_afterwards": server.is_idle(),
            "restarts": server.metric("vivace:engine_restarts_total"),
            **figures(record, seconds),
            "memory_by_minute": memory_by_minute(record),
        }
    if given.plot is not None:
        plot(record, given.plot)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
