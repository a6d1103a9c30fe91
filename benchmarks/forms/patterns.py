"""Random regular expressions that Python and Rust read alike. None goes on for ever: a small model
that may do so does."""

from __future__ import annotations

import random
import re
import string

CLASSES = ("[a-z]", "[A-Z]", "[0-9]", "[a-f0-9]", "[A-Za-z_]", '[^<>"\\\\]', "[aeiou]", "[à-ü]")
REPEATS = ("", "", "?", "{2}", "{3}", "{1,4}", "{0,3}", "{1,9}")
MARKS = ("-", "/", ".", "@", " ", ":", "#", "(", "{", "+")
PARTS = 5
DEPTH = 2


def patterns(count: int, seed: int) -> list[str]:
    return [_pattern(random.Random(f"{seed}/{number}"), DEPTH) for number in range(count)]


def simple_pattern(rng: random.Random) -> str:
    """What stands in a schema."""
    parts = [
        rng.choice(CLASSES) + rng.choice(["", "{2}", "{1,6}"]) + rng.choice(["", "-", ":"])
        for _ in range(rng.randint(1, 3))
    ]
    return "".join(parts)


def _pattern(rng: random.Random, depth: int) -> str:
    return "".join(_part(rng, depth) for _ in range(rng.randint(1, PARTS)))


def _part(rng: random.Random, depth: int) -> str:
    kind = rng.random()
    if depth and kind < 0.3:
        either = "|".join(_pattern(rng, depth - 1) for _ in range(rng.randint(1, 3)))
        return f"({either}){rng.choice(['', '', '?', '{2}'])}"
    if kind < 0.5:
        return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(1, 6)))
    if kind < 0.65:
        return re.escape(rng.choice(MARKS))
    return rng.choice(CLASSES) + rng.choice(REPEATS)
