"""What packed KV pages cost and save: KL divergence on the held-out text, and bytes per token.

    python benchmarks/kv_quality.py [--formats int8 int4] [--model FOLDER] [--files N]

Takes some minutes with the bundled model; prints one JSON object. `kl` is the mean over tokens of
KL(plain || packed) in nats, each token predicted from up to WINDOW - 1 tokens before it;
`agreement` and `perplexity` are about the same predictions. `smaller` says how many times less
memory the pages of a sequence of `--context` tokens take than plain ones.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from vivace import LLM
from vivace.core.config import EngineConfig
from vivace.engine.backends import Wanted, choose_backend
from vivace.engine.plan import kv_bytes_per_sequence, with_kv_dtype
from vivace.evaluate.corpus import TextFile, held_out_files
from vivace.evaluate.divergence import (
    Doubles,
    kl_divergence,
    log_probabilities,
    negative_log_likelihood,
    same_top1,
)
from vivace.formats.checkpoint import open_checkpoint
from vivace.formats.hub import resolve_model
from vivace.models.loader import model_spec

FORMATS = ("int8", "int4")
WINDOW = 1024  # tokens scored at once: what the bundled model was trained on


@dataclass(frozen=True)
class Loss:
    """Attributes:
    kl: KL(plain || packed) per token, in nats.
    agreement: share of tokens at which both find the same one likeliest.
    perplexity: of the packed model over that of the plain one.
    """

    kl: float
    agreement: float
    perplexity: float


def windows(llm: LLM, texts: Sequence[TextFile]) -> Iterator[list[int]]:
    """Runs of up to WINDOW tokens, each file from its start."""
    assert llm.tokenizer is not None, "The model has no tokenizer.json to encode the text with."
    for text in texts:
        tokens = list(llm.tokenizer.encode(text.text))
        for start in range(0, len(tokens) - 1, WINDOW):
            yield tokens[start : start + WINDOW]


def opened(config: EngineConfig) -> LLM:
    return LLM(**asdict(config))


def losses_of(plain: LLM, packed: Mapping[str, LLM], texts: Sequence[TextFile]) -> dict[str, Loss]:
    """By format, what the packed pages of the second models cost."""
    sums, count = {kept: np.zeros(3) for kept in packed}, 0
    for tokens in windows(plain, texts):
        p, nats = predictions(plain, tokens)
        count += len(nats)
        for kept, llm in packed.items():
            q, more = predictions(llm, tokens)
            found = kl_divergence(p, q), same_top1(p, q), more - nats
            sums[kept] += [each.sum() for each in found]
    return {kept: loss(*total / count) for kept, total in sums.items()}


def predictions(llm: LLM, tokens: list[int]) -> tuple[Doubles, Doubles]:
    """Log-probabilities of each next token [n - 1, vocab], and what the right ones cost."""
    log_probs = log_probabilities(llm.logits(tokens)[:-1])
    return log_probs, negative_log_likelihood(log_probs, tokens[1:])


def loss(kl: float, agreement: float, nats: float) -> Loss:
    return Loss(float(kl), float(agreement), float(np.exp(nats)))


def sequence_bytes(config: EngineConfig, num_tokens: int) -> int:
    """What the KV pages of one sequence take while it decodes, by what the backend allocates."""
    checkpoint = open_checkpoint(resolve_model(config.model))
    backend = choose_backend(Wanted(config, checkpoint, threads=1, notify=notice))
    spec = with_kv_dtype(model_spec(checkpoint.config), config.kv_cache_dtype, backend.dtype)
    return kv_bytes_per_sequence(spec, backend, num_tokens)


def notice(line: str) -> None:
    print(line, file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description="What packed KV pages cost and save.")
    parser.add_argument("--model", help="left out, the bundled model")
    parser.add_argument("--backend", choices=("cpu", "reference", "torch"), default="cpu")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--files", type=int, help="only so many files of the held-out text")
    parser.add_argument("--context", type=int, default=4096, help="tokens of a sequence")
    given = parser.parse_args()
    texts = held_out_files()[: given.files]
    config = EngineConfig(given.model, given.backend, "bfloat16", packed_cache=False)
    plain, plain_bytes = opened(config), sequence_bytes(config, given.context)
    packed = {kept: replace(config, kv_cache_dtype=kept) for kept in given.formats}
    losses = losses_of(plain, {kept: opened(one) for kept, one in packed.items()}, texts)
    report = {
        kept: {**asdict(loss), "smaller": plain_bytes / sequence_bytes(packed[kept], given.context)}
        for kept, loss in losses.items()
    }
    print(json.dumps({"context": given.context, "bytes": plain_bytes, "formats": report}))


if __name__ == "__main__":
    main()
