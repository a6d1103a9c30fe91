"""The claims about speed on a CPU: one row each, in the order of their issue. Each is proved for an
`isa`: "native", or "avx512" without AMX. Times are for two cores, with the peers installed."""

from __future__ import annotations

from claims import cpu_speed, serving
from claims.by_tests import tests_pass, tests_pass_with
from claims.row import Outcome, Row, all_of
from vivace.hardware.isa import levels_up_to
from vivace.hardware.machine import detect

# These go through every level by themselves,
KERNEL_TESTS = ("tests/native", "tests/backends", "tests/decoding/test_native_draw.py")
# and these run at the level of VIVACE_ISA.
ENGINE_TESTS = (
    "tests/cache/test_random_use.py",
    "tests/engine/test_lossless.py",
    "tests/engine/test_quantize.py",
)


def kernels(isa: str) -> Outcome:
    """Every op and draw at every level, and the engine's own tests at every level."""
    levels = [isa] if isa != "native" else levels_up_to(detect().isa)
    engines = (tests_pass_with({"VIVACE_ISA": level}, *ENGINE_TESTS) for level in levels)
    return all_of(tests_pass(*KERNEL_TESTS), *engines)


ROWS: dict[int, Row] = {
    1: Row(
        "Prefill of 512 tokens is ahead of every peer's, and near the int8 peak",
        "int8 1.1 times the best int8 peer and 75% of the peak, int4 1.35 times the best int4 "
        "peer and 68%, bfloat16 0.97 times the best bfloat16 peer",
        "10 to 15 minutes",
        cpu_speed.prefill,
    ),
    2: Row(
        "Decode at batch 1 is ahead of llama.cpp's, and near the streaming read",
        "int4 1.1 times Q4_0 at no more bytes per weight, int4-g32 1.0 times, int8 1.1 times "
        "Q8_0; each 88% of the streaming read below 40 GB/s, 72% above",
        "3 to 5 minutes",
        cpu_speed.decode_one,
    ),
    3: Row(
        "Decode in batches is ahead of every peer's in any format",
        "batch 16, at contexts of 64 and 1024: int4 1.7 times the best peer, int8 1.5 times; "
        "batch 4: 1.4 times",
        "20 to 30 minutes",
        cpu_speed.decode_many,
    ),
    4: Row(
        "Attention does not spoil decode at a context of 4096",
        "no more time than the KV bytes explain, +10%",
        "3 minutes",
        cpu_speed.long_context,
    ),
    5: Row(
        "A 1.1B int4 model starts within a second, and takes little more than its weights",
        "first token below 1 s and before llama.cpp's; at most 1.1 times weights and KV, +150 MB",
        "1 to 2 minutes",
        cpu_speed.start,
    ),
    6: Row(
        "Serving 16 clients is ahead of every peer's, with no longer pauses",
        "1.5 times the best peer at prompt 32, answer 256; 1.2 times at prompt 256, answer 64; "
        "p99 between tokens no worse; 4 times static batches on mixed lengths",
        "30 to 40 minutes",
        serving.prove,
    ),
    7: Row(
        "Every kernel is deterministic and matches the reference",
        "all tests pass at every level",
        "4 to 10 minutes",
        kernels,
    ),
}
