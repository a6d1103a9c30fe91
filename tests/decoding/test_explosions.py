"""Constraints that take more than they should: each is compiled or refused in bounded time, its
steps are short, and threads beside it go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any

import numpy as np
import pytest

from tests.decoding.matching import Matching
from tests.text.trained import byte_level
from vivace.core.errors import RequestError
from vivace.core.structured import StructuredOutputsParams

COMPILE_SECONDS = 5.0
STEP_SECONDS = 1.0
PAUSE_SECONDS = 0.5  # that others may see
STEPS = 16


def nested(levels: int, **around: Any) -> dict[str, Any]:
    def array(inner: dict[str, Any], _: int) -> dict[str, Any]:
        return {"type": "array", "items": inner, **around}

    return reduce(array, range(levels), {"type": "integer"})


def tower(levels: int) -> dict[str, Any]:
    """Twice as many ways with every level."""
    found: dict[str, Any] = {"d0": {"type": "object"}}
    for i in range(1, levels):
        parts = [{"$ref": f"#/$defs/d{i - 1}"}, {"properties": {f"p{i}": {"type": "integer"}}}]
        found[f"d{i}"] = {"allOf": [{"anyOf": parts}, {"anyOf": parts[::-1]}]}
    return {"$ref": f"#/$defs/d{levels - 1}", "$defs": found}


MEETING = [{"pattern": f"[a-z]{{0,{50 + i}}}x"} for i in range(10)]
DOUBLING = "\n".join(["start: r0", *(f"r{i}: r{i + 1} r{i + 1}" for i in range(60)), 'r60: "a"'])
FORMS = {
    "schemas in schemas": {"json": tower(12)},
    "deep schema": {"json": nested(400)},
    "many ways to be long": {"json": nested(60, minItems=2, maxItems=5)},
    "patterns that meet": {"json": {"type": "string", "allOf": MEETING}},
    "large enum": {"json": {"enum": [f"value-{i}" for i in range(5000)]}},
    "long strings": {"json": {"type": "string", "minLength": 100_000, "maxLength": 10**9}},
    "huge arrays": {"json": nested(3, maxItems=10**5)},
    "schema of itself": {"json": {"$ref": "#"}},
    "remainders": {"json": {"type": "integer", "multipleOf": 10_007}},
    "counts of counts": {"regex": "((a{1,100}){1,100}){1,100}"},
    "late choice": {"regex": "[ab]*a[ab]{300}"},
    "letters of all scripts": {"regex": r"(\w{0,200}\p{L}){0,50}"},
    "long regex": {"regex": "a{100000}"},
    "deep regex": {"regex": "(" * 5000 + "a" + ")" * 5000},
    "ambiguous grammar": {"grammar": 'start: s\ns: s s | s s s | "a" | ""\n'},
    "doubling grammar": {"grammar": DOUBLING + "\n"},
    "many rules": {"grammar": "start: " + " | ".join(f'"w{i}" start?' for i in range(4000)) + "\n"},
    "many choices": {"choice": [f"choice {i}" for i in range(10_000)]},
    "long choices": {"choice": ["ab" * 50_000, "ac" * 50_000]},
}


@pytest.fixture(scope="module")
def matching() -> Iterator[Matching]:
    matching = Matching(byte_level())
    yield matching
    matching.close()


@contextmanager
def heartbeat() -> Iterator[list[float]]:
    """How long another thread had to wait at most: the last of the list, once it is left."""
    beats, over = [time.monotonic()], threading.Event()
    longest: list[float] = []

    def beat() -> None:
        while not over.wait(0.002):
            beats.append(time.monotonic())

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield longest
    finally:
        over.set()
        thread.join()
        beats.append(time.monotonic())
        longest.append(float(np.diff(beats).max()))


@pytest.mark.parametrize("name", FORMS)
def test_it_is_bounded_and_holds_up_nobody(matching: Matching, name: str) -> None:
    with heartbeat() as pauses:
        began = time.monotonic()
        try:
            matcher = matching.matcher(StructuredOutputsParams(**FORMS[name]))
        except RequestError:
            matcher = None
        compiled = time.monotonic() - began
        slowest = 0.0 if matcher is None else slowest_step(matcher, np.random.default_rng(0))
    assert compiled < COMPILE_SECONDS
    assert slowest < STEP_SECONDS
    assert pauses[0] < PAUSE_SECONDS


def slowest_step(matcher: Any, rng: np.random.Generator) -> float:
    """Of some steps with tokens drawn from what is allowed; a matcher may give up."""
    seconds = [0.0]
    for _ in range(STEPS):
        began = time.monotonic()
        allowed = np.flatnonzero(np.frombuffer(matcher.compute_logit_bias(), np.uint8))
        seconds.append(time.monotonic() - began)
        if matcher.is_error() or not allowed.size:
            break
        matcher.consume_token(int(rng.choice(allowed)))
    return max(seconds)


def test_choices_may_begin_alike(matching: Matching) -> None:
    choices = ("a", "ab", "né", "a b\n", '"')
    form = StructuredOutputsParams(choice=choices)
    assert all(matching.takes(form, one) for one in choices)
    assert not any(matching.takes(form, one) for one in ("", "abb", "aab", "n"))


def test_a_choice_may_be_empty(matching: Matching) -> None:
    form = StructuredOutputsParams(choice=("", "a"))
    assert matching.takes(form, "")
    assert matching.takes(form, "a")
