"""Rows 1 to 5: speed beside the peers, and the shares of the machine's limits.

Each row names what it needs: the contenders of its bar, and the limits where a share is asked for.
Without one of them it does not hold; whoever else is absent is only told of.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from claims.peers_run import (
    HEAD_WEIGHTS,
    KV_BYTES_PER_TOKEN,
    LAYER_WEIGHTS,
    LAYERS,
    LIMITS,
    Bar,
    PeersRun,
    Share,
    run_peers,
)
from claims.row import Outcome, all_of

INT4, INT4_G32, INT8 = "vivace int4-g128", "vivace int4-g32", "vivace int8"
BFLOAT16 = "vivace bfloat16"
Q4_0, Q8_0 = "llama.cpp Q4_0", "llama.cpp Q8_0"
OPENVINO_INT4 = ("OpenVINO int4", "OpenVINO int4, a8")
OPENVINO_INT8 = ("OpenVINO int8", "OpenVINO int8, a8")
W8A8, VLLM_BFLOAT16 = "vLLM W8A8", "vLLM bfloat16"
PREFILL_NEEDS = (INT8, INT4, BFLOAT16, W8A8, *OPENVINO_INT4, VLLM_BFLOAT16, LIMITS)
DECODE_ONE_NEEDS = (INT4, INT4_G32, INT8, Q4_0, Q8_0, LIMITS)
LONG_CONTEXT_NEEDS = (INT4, INT8, BFLOAT16)
START_NEEDS = (INT4, Q4_0)
# The best peer of any format is looked for kind by kind, with vivace's two beside each: all at
# once do not fit into memory, and rates of different times cannot be compared.
OURS_IN_BATCHES = (INT4, INT8)
PEERS_IN_BATCHES = (
    (Q4_0, *OPENVINO_INT4, "vLLM int4", "ONNX Runtime int4"),
    (Q8_0, *OPENVINO_INT8, W8A8),
    ("llama.cpp BF16", VLLM_BFLOAT16, "Transformers bfloat16"),
)
BATCHES_NEED = (*OURS_IN_BATCHES, Q4_0, Q8_0, *OPENVINO_INT4, *OPENVINO_INT8, W8A8, VLLM_BFLOAT16)
BATCH_BARS = {"decode-4x64": (1.4, 1.4), "decode-16x64": (1.7, 1.5), "decode-16x1024": (1.7, 1.5)}
SLOW_READ = 40e9
Q4_0_BYTES = 18 / 32  # per weight; the embedding has as many as the head
LONG, SHORT = "decode-1x4032", "decode-1x64"
START_TOKENS = 32 + 1  # whose keys and values are held after a start


def outcome(run: PeersRun, checks: Sequence[Bar | Share], needed: Collection[str]) -> Outcome:
    absent = run.absent(needed)
    return Outcome(
        "; ".join([*map(str, checks), *run.also_absent(needed)]),
        all(check.holds for check in checks) and absent is None,
        absent,
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
    return outcome(run, checks, PREFILL_NEEDS)


def _peak_share(run: PeersRun, name: str, task: str, least: float) -> Share:
    """Only the last row needs the head."""
    tokens = int(task.split("-")[1])
    rate, peak = run.rate(name, task), run.limit("int8", task)
    operations = 2 * (tokens * LAYERS * LAYER_WEIGHTS + HEAD_WEIGHTS)
    share = None if rate is None or peak is None else operations * rate / tokens / peak
    return Share(f"{name} at this share of the int8 peak:", share, least)


def decode_one(isa: str) -> Outcome:
    run = run_peers(isa, [SHORT], [name for name in DECODE_ONE_NEEDS if name != LIMITS])
    checks: list[Bar | Share] = []
    for name, peer, least in ((INT4, Q4_0, 1.1), (INT4_G32, Q4_0, 1.0), (INT8, Q8_0, 1.1)):
        theirs = run.rate(peer, SHORT)
        named = None if theirs is None else (peer, theirs)
        checks += [Bar(f"{name}:", run.rate(name, SHORT), named, least), _read_share(run, name)]
    checks += [_no_more_bytes(run)]
    return outcome(run, checks, DECODE_ONE_NEEDS)


def _read_share(run: PeersRun, name: str) -> Share:
    """Weights and cache read for a token, over what could be read in that time."""
    read, rate = run.limit("read", SHORT), run.rate(name, SHORT)
    if read is None or rate is None:
        return Share(f"{name} at this share of the streaming read:", None, 0.88)
    least = 0.88 if read < SLOW_READ else 0.72
    token_bytes = run.about(name, "token_bytes") + 64 * KV_BYTES_PER_TOKEN
    label = f"{name} at this share of the streaming read ({read / 1e9:.0f} GB/s):"
    return Share(label, rate * token_bytes / read, least)


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
    runs = [run_peers(isa, BATCH_BARS, [*OURS_IN_BATCHES, *peers]) for peers in PEERS_IN_BATCHES]
    return all_of(*(batches(run) for run in runs))


def batches(run: PeersRun) -> Outcome:
    """Of one kind of peers."""
    needed = [name for name in BATCHES_NEED if name in run.result["contenders"]]
    checks = [
        Bar(f"{task}: {name}", run.rate(name, task), run.best_peer(task), least)
        for task, bars in BATCH_BARS.items()
        for name, least in zip(OURS_IN_BATCHES, bars, strict=True)
    ]
    judged = outcome(run, checks, needed)
    kind = next(one["kind"] for one in run.result["contenders"].values() if one["peer"] != "vivace")
    return replace(judged, figures={f"{kind} peers": run.result})


def long_context(isa: str) -> Outcome:
    run = run_peers(isa, [SHORT, LONG], LONG_CONTEXT_NEEDS)
    return outcome(run, [_explained(run, name) for name in LONG_CONTEXT_NEEDS], LONG_CONTEXT_NEEDS)


def _explained(run: PeersRun, name: str) -> Share:
    """What the bytes of weights and KV let expect of the long context, over what it took."""
    short, long = run.rate(name, SHORT), run.rate(name, LONG)
    share = None
    if short is not None and long is not None:
        weights = run.about(name, "token_bytes")
        before, after = (weights + n * KV_BYTES_PER_TOKEN for n in (64, 4032))
        share = long / short * after / before
    return Share(f"{name} at 4032 tokens, of what the bytes let expect:", share, 1 / 1.1)


def start(isa: str) -> Outcome:
    return started(run_peers(isa, ["start"], START_NEEDS))


def started(run: PeersRun) -> Outcome:
    ours, theirs = (run.started(name, "first_token_seconds") for name in START_NEEDS)
    peak, weights = run.started(INT4, "peak_bytes"), run.about(INT4, "weight_bytes")
    if ours is None or theirs is None or peak is None or weights is None:
        return Outcome("not all could be started", holds=False, absent=run.absent(START_NEEDS))
    allowed = 1.1 * (weights + START_TOKENS * KV_BYTES_PER_TOKEN) + 150e6
    return Outcome(
        f"first token after {ours:.2f} s, {Q4_0} after {theirs:.2f} s; "
        f"peak memory {peak / 1e6:.0f} MB of {allowed / 1e6:.0f} MB allowed",
        ours < 1 and ours < theirs and peak <= allowed,
        figures={"peers": run.result},
    )
