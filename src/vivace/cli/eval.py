"""`vivace eval`: how well a model predicts text, and how far it is from another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vivace.cli.bench_output import Output, print_table, readable
from vivace.cli.console import progress
from vivace.cli.flags import flags
from vivace.cli.model import load
from vivace.core.config import EngineConfig
from vivace.core.errors import UsageError
from vivace.evaluate.plans import EvalPlan, Protocol

if TYPE_CHECKING:
    from vivace.engine.llm import LLM
    from vivace.evaluate.bootstrap import Estimate
    from vivace.evaluate.corpus import TextFile
    from vivace.evaluate.scoring import Encoder, Scores, Window

# What serving alone is concerned with; the length follows the protocol.
_NO_MATTER = (
    "max_model_len",
    "max_num_seqs",
    "max_prefill_chunk",
    "max_prefill_beside_decodes",
    "max_wait_seconds",
    "tenant_weights",
    "max_queued_requests",
    "max_queued_tokens",
    "target_itl_ms",
    "target_ttft_ms",
    "kv_host_bytes",
    "kv_disk_bytes",
    "kv_disk_folder",
    "enable_prefix_caching",
)
_AT_ONCE = 8  # continuations in a batch: KV pages for two models may have to fit

TextFlag = Annotated[
    Path | None,
    typer.Option("--text", help="A file of UTF-8 text; left out, the held-out text that ships."),
]
Against = Annotated[
    str | None,
    typer.Option("--against", metavar="BASE", help="The model to compare with, never rounded."),
]


@partial(flags, without=_NO_MATTER)
def evaluate(
    config: EngineConfig,
    protocol: Protocol,
    plan: EvalPlan,
    output: Output,
    text: TextFlag = None,
    against: Against = None,
) -> None:
    """Measure how well a model predicts text; with --against, how far it is from BASE."""
    from vivace.evaluate.plot import plot_evaluation
    from vivace.evaluate.scoring import cut, score

    texts = _texts(text)
    length = max(protocol.context, plan.greedy_prompt_len + plan.greedy_len)
    config = replace(config, max_model_len=length, max_num_seqs=_AT_ONCE)
    model = load(config)
    windows = cut(texts, _encoder(model), protocol, plan.max_windows)
    base = None if against is None else _load_base(replace(config, model=against), model, texts)
    with progress("Scoring") as report:
        batches = None if base is None else base.logit_batches
        scores = score(model.logit_batches, windows, batches, report)
    figures = _figures(scores, windows)
    if base is not None:
        figures |= _greedy(model, base, windows, plan)
    figures |= _recall(model, base, windows, plan)
    facts = {
        **_facts(model, windows),
        "base": against,
        "text": "the held-out text" if text is None else str(text),
        "protocol": {**asdict(protocol), "files": len(texts), **asdict(plan)},
    }
    _show(facts, figures, output)
    output.draw(lambda path: plot_evaluation(path, scores, facts))


def _texts(path: Path | None) -> tuple[TextFile, ...]:
    from vivace.evaluate.corpus import held_out_files, text_file

    return held_out_files() if path is None else (text_file(path),)


def _encoder(llm: LLM) -> Encoder:
    if llm.tokenizer is None:
        raise UsageError(f"{llm.info.model_name} has no tokenizer to encode the text with.")
    return llm.tokenizer


def _load_base(config: EngineConfig, model: LLM, texts: Sequence[TextFile]) -> LLM:
    """The model to compare with, as it is stored.

    Raises:
        UsageError: it reads the texts in other tokens, or has another vocabulary.
    """
    base = load(replace(config, quantize=None))
    ours, theirs = _encoder(model), _encoder(base)
    alike = all(ours.encode(text.text) == theirs.encode(text.text) for text in texts)
    if not alike or model.info.vocab_size != base.info.vocab_size:
        raise UsageError(
            f"{base.info.model_name} reads the text in other tokens than {model.info.model_name}; "
            "compare models of one tokenizer and vocabulary."
        )
    return base


def _facts(model: LLM, windows: Sequence[Window]) -> dict[str, Any]:
    """What was scored, and how intervals come about."""
    from vivace.evaluate.bootstrap import CONFIDENCE, RESAMPLES

    info, first = model.info, windows[0].token_ids[0]
    bos = None if model.tokenizer is None else model.tokenizer.bos_token_id
    return {
        "model": info.model_name,
        "backend": info.backend,
        "precision": info.precision,
        "start_token": first if first == bos else None,
        "windows": len(windows),
        "tokens": sum(len(window.targets) for window in windows),
        "bytes": sum(window.num_bytes for window in windows),
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
    }


def _figures(scores: Scores, windows: Sequence[Window]) -> dict[str, Estimate]:
    from vivace.evaluate.summary import divergence, prediction

    own = prediction(scores.nats, scores, windows)
    if scores.beside is None:
        return own
    base = prediction(scores.beside.base_nats, scores, windows)
    beside = {f"base_{name}": figure for name, figure in base.items()}
    return {**own, **beside, **divergence(scores, scores.beside, windows)}


def _greedy(
    model: LLM, base: LLM, windows: Sequence[Window], plan: EvalPlan
) -> dict[str, Estimate]:
    from vivace.evaluate.continuations import continuations, prompts_of
    from vivace.evaluate.summary import greedy_agreement

    prompts = prompts_of(windows, plan)
    with progress(f"Continuing with {base.info.model_name}") as report:
        expected = continuations(base, prompts, plan, report)
    with progress(f"Continuing with {model.info.model_name}") as report:
        found = continuations(model, prompts, plan, report)
    return greedy_agreement(expected, found)


def _recall(
    model: LLM, base: LLM | None, windows: Sequence[Window], plan: EvalPlan
) -> dict[str, Estimate]:
    """Empty where it is not asked for."""
    from vivace.evaluate.recall import questions, recalled
    from vivace.evaluate.summary import recall

    asked, figures = questions(windows, _encoder(model), plan), {}
    for name, llm in (("recall", model), ("base_recall", base)):
        if llm is not None and asked:
            with progress(f"Asking {llm.info.model_name}") as report:
                figures[name] = recall(recalled(llm.logit_batches, asked, report))
    return figures


def _show(facts: dict[str, Any], figures: dict[str, Estimate], output: Output) -> None:
    """One JSON object; or for people what was scored, then a table of the figures."""
    if output.json:
        output.show({**facts, **{name: asdict(figure) for name, figure in figures.items()}})
        return
    base = "" if facts["base"] is None else f" beside {facts['base']}"
    protocol = facts["protocol"]
    print(
        f"{facts['model']} in {facts['precision']}{base} on {facts['text']}: "
        f"{facts['tokens']:,} tokens in {facts['windows']:,} windows of {protocol['context']} "
        f"every {protocol['stride']}"
    )
    rows = [("", "value", f"{facts['confidence']:.0%} from", "to")]
    for name, figure in figures.items():
        low, high = readable(figure.low), readable(figure.high)
        rows.append((name.replace("_", " "), readable(figure.value), low, high))
    print_table(rows)
