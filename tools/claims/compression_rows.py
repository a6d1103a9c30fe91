"""The claims about compression: one row each, in the order of their issue. Times are for two
cores."""

from __future__ import annotations

from claims import artefacts, compression, gguf, pruning, quantizers
from claims.benchmark import judged
from claims.by_tests import tests_pass
from claims.row import Outcome, Row, all_of, missing

IDENTITIES = (
    "tests/optimize/test_grid.py",
    "tests/optimize/test_gptq.py",
    "tests/optimize/test_scale_searches.py",
    "tests/optimize/test_folding.py",
)


def _methods() -> Outcome:
    return all_of(tests_pass(*IDENTITIES), judged("quantization.py", 40, compression.ordering)())


def _layouts() -> Outcome:
    """Every layout number by number, then files that the tools themselves wrote."""
    read = tests_pass("tests/formats/test_quantized.py")
    written = judged("quantizers.py", 30, quantizers.judge_loads, "--seeds", "1", "--loads")()
    return all_of(read, judged("artefacts.py", 20, artefacts.judge)(), written)


def _precisions() -> Outcome:
    views = judged("nested.py", 10, compression.nested)()
    return all_of(views, judged("mixed_precision.py", 20, compression.mixed)())


def _pruning() -> Outcome:
    identities = ("test_prune_methods", "test_structure", "test_distillation")
    passed = tests_pass(*(f"tests/optimize/{name}.py" for name in identities))
    return all_of(passed, judged("pruning.py", 60, pruning.judge)())


def _not_built(what: str) -> Row:
    claim, bar = _LATER[what]
    return Row(claim, bar, "no time yet", lambda: missing(f"{what} (not built yet)"))


_LATER = {
    "ternary and binary": (
        "Ternary and binary models after distillation",
        "loss and size stated; kernels exact against integers",
    ),
}

ROWS: dict[int, Row] = {
    1: Row(
        "Methods cost what they should, in the order that they should",
        "float > awq, gptq > rtn at 4 and 3 bits of equal size, over three calibration seeds; half "
        "of the cost of rtn recovered; int8 with outliers: rtn collapses (1.5 times the "
        "perplexity), smoothquant within 0.5%",
        "12 minutes, at most 40",
        _methods,
    ),
    2: Row(
        "No worse than others' quantizers",
        "KL on our checkpoint at int4 in groups of 128, over three calibration seeds, beside gptq "
        "and awq of llm-compressor and beside auto-round (gptqmodel needs a PyTorch that has no "
        "build for CPUs yet)",
        "15 minutes, at most 60",
        judged("quantizers.py", 60, quantizers.judge),
    ),
    3: Row(
        "No worse than llama.cpp at equal size",
        "KL at Q4_K_M, Q4_0, Q8_0 and Q6_K, without text and with it, over three calibration "
        "seeds; of files of every type no farther from the file's own float32 logits than "
        "llama.cpp; ours load there, in the same tokens",
        "10 minutes, at most 40",
        judged("gguf_files.py", 40, gguf.judge),
    ),
    4: Row(
        "Others' checkpoints load here, and ours there",
        "the same logits as Transformers at a16; ours in Transformers and vLLM",
        "5 minutes, at most 20",
        _layouts,
    ),
    5: Row(
        "One file holds 8 and 4 bits; mixed precision pays",
        "the 4-bit view within 0.01 nats of a 4-bit model; at equal bytes a mix beats one scheme "
        "for all and 100 of 100 random mixes, and costs what was predicted within 10%",
        "5 minutes, at most 20",
        _precisions,
    ),
    6: Row(
        "Pruned models lose little and run faster",
        "at 50% magnitude > sparsegpt, wanda (over the matrix, as magnitude); 2:4 exact; with "
        "layers a quarter smaller, distillation gives 90% of the loss back and beats as many "
        "tokens from scratch, and 0.9 of the multiplications saved are time saved",
        "20 minutes, at most 60",
        _pruning,
    ),
    7: _not_built("ternary and binary"),
    8: Row(
        "Smaller, faster, as good: one table by one command",
        "4 to 8 times smaller than float32, 2 to 4 times faster than bfloat16 at batch 1, with the "
        "KL that it costs",
        "5 minutes, at most 20",
        judged("claims.py", 20, compression.seed_claims),
    ),
    9: Row(
        "1.1B to int4 gptq on two cores",
        "128 runs of 512 tokens in 60 minutes, 1.5 GB beyond the mapped checkpoint; resumable",
        "50 minutes, at most 75",
        judged("quantize_large.py", 75, compression.large),
    ),
}
