"""A recall task: a name gets a value somewhere in a text, and at its end its value is asked for.

The value is made of random digits, so that nothing but reading it tells it; a window of text
around it keeps the distance. Kamradt, "Needle in a haystack" (2023), in the form of an assignment.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from vivace.evaluate.continuations import common_prefix
from vivace.evaluate.plans import EvalPlan
from vivace.evaluate.scoring import Encoder, LogitBatches, Progress, Window, predictions

ROOM = 64  # tokens that the assignment and its name take, were they of one byte each


def questions(windows: Sequence[Window], encoder: Encoder, plan: EvalPlan) -> list[Window]:
    """As many as the plan asks for, each a window whose targets are the value. The assignments
    stand at even depths."""
    count, draw = plan.recall_prompts or 0, random.Random(0)
    return [
        _question(
            _text(windows[place * len(windows) // count], encoder),
            (place + 0.5) / count,
            (f"total_{place}", draw.randrange(10_000, 50_000)),
            encoder,
        )
        for place in range(count)
    ]


def recalled(
    model: LogitBatches, asked: Sequence[Window], progress: Progress | None = None
) -> list[bool]:
    """Whether greedy decoding answers each question with its value."""
    found = []
    for question in asked:
        batches = predictions(model, question)
        right = [(rows.argmax(axis=-1) == targets).all() for rows, targets in batches]
        found.append(all(right))
        if progress is not None:
            progress(len(found), len(asked))
    return found


def _text(window: Window, encoder: Encoder) -> str:
    """Of a window, less its first token, which may be a start token, and the room for a question;
    characters that it cuts are left out."""
    kept = window.token_ids[1 : max(len(window.token_ids) - ROOM, 1)]
    return b"".join(map(encoder.token_bytes, kept)).decode(errors="ignore")


def _question(text: str, depth: float, pair: tuple[str, int], encoder: Encoder) -> Window:
    name, value = pair
    place = round(depth * len(text))
    asked = f"{text[:place]}\n{name} = {value}\n{text[place:]}\n{name} = "
    tokens, others = (encoder.encode(f"{asked}{each}") for each in (value, value + 50_000))
    first = common_prefix(tokens, others)
    return Window(tokens[:-1], tokens[first:], len(str(value)))
