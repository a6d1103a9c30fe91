"""Rows 1 to 5: speed beside the peers, and the shares of the machine's limits."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from claims.peers_run import (
    HEAD_WEIGHTS,
    KV_BYTES_PER_TOKEN,
    LAYER_WEIGHTS,
    LAYERS,
    Bar,
    PeersRun,
    Share,
    run_peers,
)
from claims.row import Outcome

INT4, INT4_G32, INT8 = "vivace int4-g128", "vivace int4-g32", "vivace int8"
BFLOAT16 = "vivace bfloat16"
Q4_0, Q8_0 = "llama.cpp Q4_0", "llama.cpp Q8_0"
SLOW_READ = 40e9
Q4_0_BYTES = 18 / 32  # per weight; the embedding has as many as the head
LONG, SHORT = "decode-1x4064", "decode-1x64"


def outcome(run: PeersRun, checks: Sequence[Bar | Share]) -> Outcome:
    return Outcome(
        "; ".join(map(str, checks)),
        all(check.holds for check in checks),
        run.absent(),
        {"peers": run.result},
    )


def prefill(isa: str) -> Outcome:
    task = "prefill-512"
    run = run_peers(isa, [task])
    bars = {INT8: ("int8", 1.1), INT4: ("int4", 1.35), BFLOAT16: ("bfloat16", 0.97)}
    checks: list[Bar | Share] = [
        Bar(f"{name}:", run.rate(name, task), run.best_peer(task, kind), least)
        for name, (kind, least) in bars.items()
    ]
    checks += [_peak_share(run, INT8, task, 0.75), _peak_share(run, INT4, task, 0.68)]
    return outcome(run, checks)


def _peak_share(run: PeersRun, name: str, task: str, least: float) -> Share:
    """Only the last row needs the head."""
    tokens = int(task.split("-")[1])
    rate = run.rate(name, task)
    operations = 2 * (tokens * LAYERS * LAYER_WEIGHTS + HEAD_WEIGHTS)
    share = None if rate is None else operations * rate / tokens / run.limit("int8", task)
    return Share(f"{name} at this share of the int8 peak:", share, least)


def decode_one(isa: str) -> Outcome:
    run = run_peers(isa, [SHORT], [INT4, INT4_G32, INT8, Q4_0, Q8_0])
    checks: list[Bar | Share] = []
    for name, peer, least in ((INT4, Q4_0, 1.1), (INT4_G32, Q4_0, 1.0), (INT8, Q8_0, 1.1)):
        theirs = run.rate(peer, SHORT)
        named = None if theirs is None else (peer, theirs)
        checks += [Bar(f"{name}:", run.rate(name, SHORT), named, least), _read_share(run, name)]
    checks += [_no_more_bytes(run)]
    return outcome(run, checks)


def _read_share(run: PeersRun, name: str) -> Share:
    """Weights and cache read for a token, over what could be read in that time."""
    read, rate = run.limit("read", SHORT), run.rate(name, SHORT)
    least = 0.88 if read < SLOW_READ else 0.72
    token_bytes = run.about(name, "token_bytes")
    share = None if rate is None else rate * (token_bytes + 64 * KV_BYTES_PER_TOKEN) / read
    return Share(
        f"{name} at this share of the streaming read ({read / 1e9:.0f} GB/s):", share, least
    )


def _no_more_bytes(run: PeersRun) -> Share:
    """Bytes per weight that a token reads: all but the embedding, which Q4_0 keeps as Q4_0."""
    ours = run.about(INT4, "token_bytes")
    whole = run.result["contenders"][Q4_0]["bytes_per_weight"]
    share = None
    if ours is not None and whole is not None:
        theirs = whole * run.result["parameters"] - HEAD_WEIGHTS * Q4_0_BYTES
        share = theirs / ours
    return Share(f"bytes per weight read: {Q4_0} has this share of {INT4}:", share, 1.0)


def decode_many(isa: str) -> Outcome:
    wanted = {"decode-4x64": (1.4, 1.4), "decode-16x64": (1.7, 1.5), "decode-16x1024": (1.7, 1.5)}
    run = run_peers(isa, wanted)
    return outcome(
        run,
        [
            Bar(f"{task}: {name}", run.rate(name, task), run.best_peer(task), least)
            for task, bars in wanted.items()
            for name, least in zip((INT4, INT8), bars, strict=True)
        ],
    )


def long_context(isa: str) -> Outcome:
    names = (INT4, INT8, BFLOAT16)
    run = run_peers(isa, [SHORT, LONG], names)
    return outcome(run, [_explained(run, name) for name in names])


def _explained(run: PeersRun, name: str) -> Share:
    """What the bytes of weights and KV let expect of the long context, over what it took."""
    short, long = run.rate(name, SHORT), run.rate(name, LONG)
    share = None
    if short is not None and long is not None:
        weights = run.about(name, "token_bytes")
        before, after = (weights + n * KV_BYTES_PER_TOKEN for n in (64, 4064))
        share = long / short * after / before
    return Share(f"{name} at 4064 tokens, of what the bytes let expect:", share, 1 / 1.1)


def start(isa: str) -> Outcome:
    run = run_peers(isa, ["start"], [INT4, Q4_0])
    seconds = {name: _started(run, name, "first_token_seconds") for name in (INT4, Q4_0)}
    ours, theirs = seconds[INT4], seconds[Q4_0]
    peak = _started(run, INT4, "peak_bytes")
    held = run.about(INT4, "held_bytes")
    quick = ours is not None and ours < 1 and theirs is not None and ours < theirs
    small = peak is not None and held is not None and peak <= 1.1 * held + 150e6
    if ours is None or theirs is None or peak is None or held is None:
        return Outcome("not all could be started", holds=False, absent=run.absent())
    return Outcome(
        f"first token after {ours:.2f} s, {Q4_0} after {theirs:.2f} s; "
        f"peak memory {peak / 1e6:.0f} MB of {(1.1 * held + 150e6) / 1e6:.0f} MB allowed",
        quick and small,
        figures={"peers": run.result},
    )


def _started(run: PeersRun, name: str, key: str) -> float | None:
    starts = run.result["contenders"][name]["starts"]
    return median(one[key] for one in starts) if starts else None
