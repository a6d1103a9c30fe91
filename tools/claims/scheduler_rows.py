"""The claims about scheduling and the KV cache: one row each, in the order of their issue. Times
are for two cores."""

from __future__ import annotations

from claims import kv_cache, scheduling, simulator
from claims.benchmark import judged
from claims.row import Row

ROWS: dict[int, Row] = {
    1: Row(
        "10,000 requests in company give the tokens of each request alone",
        "none differs, with preemption, tiers, restarts, prefetch, pins and chunks at work; the "
        "books are right throughout",
        "4 minutes, at most 20",
        judged("lossless.py", 20, scheduling.lossless),
    ),
    2: Row(
        "Urgent requests hardly notice batch work, which loses only their work; nobody starves",
        "p99 to first token 1.5 times that on an idle engine, and a step; as many tokens per "
        "second in all; who has aged waits no longer than who is urgent",
        "4 minutes, at most 20",
        judged("priority.py", 20, scheduling.priority),
    ),
    3: Row(
        "Streams keep their target beside bursts of 4k-token prompts",
        "0.35B int8, 8 streams, target 3 times the decode-only median: p99 between tokens 1.25 "
        "times the target, throughput 0.9 times that without a target",
        "4 minutes, at most 20",
        judged("targets.py", 20, scheduling.targets),
    ),
    4: Row(
        "An abusive tenant does not take the other's share",
        "p99 latency 1.5 times that alone on an engine of half the seats and half the speed",
        "4 minutes, at most 20",
        judged("tenants.py", 20, scheduling.tenants),
    ),
    5: Row(
        "Conversations compute only what is new, after a restart too",
        "1.1B int8 without AMX, 8 conversations of 6 turns: 5 times the throughput without "
        "sharing; first token of a turn 8 times sooner, after a restart 3 times",
        "5 minutes, and 4 more where there are tiles; at most 40",
        kv_cache.conversations,
    ),
    6: Row(
        "KV pages waste little, and smaller formats hold more sequences",
        "paging wastes less than 4% of plain bfloat16; int8 1.85 times smaller at a KL below "
        "0.002 nats, int4 3.2 times; 1.8 and 2.8 times the sequences",
        "5 minutes, at most 30",
        kv_cache.memory,
    ),
    7: Row(
        "Eviction keeps long contexts going",
        "perplexity to 20 times the window within 1.05 times that at its beginning, beside a fresh "
        "context, with sinks; recall with SnapKV-style selection 0.9 times that with all kept, "
        "where a window has passed what is asked for",
        "4 minutes, at most 20",
        kv_cache.eviction,
    ),
    8: Row(
        "The simulator predicts a real run",
        "throughput, p50 and p99 of time to first token and between tokens on 5 traces within "
        "10%, or the spread of 5 runs",
        "4 minutes, at most 20",
        judged("simulator.py", 20, simulator.judge),
    ),
}
