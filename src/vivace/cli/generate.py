"""`vivace generate`: continue one prompt."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vivace.cli.console import print_json, progress, write
from vivace.cli.flags import JsonFlag, flags
from vivace.cli.model import checked, load, received
from vivace.core.config import EngineConfig

if TYPE_CHECKING:
    from vivace.core.request import Delta
    from vivace.core.sampling import SamplingParams
    from vivace.engine.llm import LLM

Prompt = Annotated[str, typer.Option("--prompt", help="The text to continue.")]
MaxTokens = Annotated[int, typer.Option("--max-tokens", help="At most this many new tokens.")]
Temperature = Annotated[
    float | None,
    typer.Option("--temperature", help="0 is greedy; left out, the model's own default."),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Fixes the random choices.")]


@flags
def generate(
    config: EngineConfig,
    prompt: Prompt,
    max_tokens: MaxTokens = 256,
    temperature: Temperature = None,
    seed: Seed = None,
    json: JsonFlag = False,
) -> None:
    """Continue a prompt; the text streams to standard output."""
    params_for = checked({"max_tokens": max_tokens, "temperature": temperature, "seed": seed})
    llm = load(config)
    if json:
        print_json(_result(llm, prompt, params_for(llm)))
        return
    received(llm.stream(prompt, params_for(llm)), write)
    write("\n")


def _result(llm: LLM, prompt: str, params: SamplingParams) -> dict[str, Any]:
    arrivals: list[float] = []
    with progress("Generating") as report:

        def count(_: str) -> None:
            arrivals.append(perf_counter())
            report(len(arrivals), params.max_tokens or 0)

        started = perf_counter()
        deltas = received(llm.stream(prompt, params), count)
    return {
        "model": llm.info.model_name,
        "prompt": prompt,
        **_answer(deltas),
        "load_seconds": llm.info.load_seconds,
        "ttft_seconds": arrivals[0] - started,
        "elapsed_seconds": arrivals[-1] - started,
    }


def _answer(deltas: list[Delta]) -> dict[str, Any]:
    return {
        "text": "".join(delta.text for delta in deltas),
        "token_ids": [token for delta in deltas for token in delta.token_ids],
        "finish_reason": deltas[-1].finish_reason,
        "stop_reason": deltas[-1].stop_reason,
    }
