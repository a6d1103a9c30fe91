"""How long two models write the same text: greedy continuations of the same prompts."""

from __future__ import annotations

from collections.abc import Sequence

from vivace.core.errors import VivaceError
from vivace.core.sampling import SamplingParams
from vivace.engine.llm import LLM
from vivace.evaluate.plans import EvalPlan
from vivace.evaluate.scoring import Progress, Window


def prompts_of(windows: Sequence[Window], plan: EvalPlan) -> list[list[int]]:
    """Of at most as many windows as there are; a window that is shorter is a shorter prompt."""
    count = min(plan.greedy_prompts, len(windows))
    chosen = [windows[place * len(windows) // count] for place in range(count)]
    return [window.token_ids[: plan.greedy_prompt_len] for window in chosen]


def continuations(
    llm: LLM, prompts: Sequence[list[int]], plan: EvalPlan, progress: Progress | None = None
) -> list[list[int]]:
    """The likeliest token again and again, past the ends of answers too: all are equally long.

    Raises:
        VivaceError: the engine gave up on one.
    """
    params = SamplingParams(temperature=0, max_tokens=plan.greedy_len, ignore_eos=True)
    answers = [output.outputs[0] for output in llm.generate(prompts, params, progress=progress)]
    failed = [answer.error for answer in answers if answer.error is not None]
    if failed:
        raise VivaceError(failed[0])
    return [answer.token_ids for answer in answers]


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens of two sequences come before the first difference."""
    differ = (i for i, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1])
    return next(differ, min(len(first), len(second)))
