"""Random context-free grammars, written as Lark and as GBNF, and a recogniser of their languages.

Every alternative begins with a text or a class, so no rule is left-recursive; one that leads back
to an earlier rule stands in brackets beside one that does not.
"""

from __future__ import annotations

import json
import random
import string
from dataclasses import dataclass
from functools import cache
from typing import Literal

RULES = 4
BRACKETS = ("()", "[]", "{}", "<>")
CLASSES = {"[0-9]": string.digits, "[a-c]": "abc", "[XYZ]": "XYZ"}


@dataclass(frozen=True)
class Symbol:
    """Attributes:
    text: as it stands, one of `CLASSES`, or a rule's number.
    """

    kind: Literal["text", "class", "rule"]
    text: str


Alternative = tuple[Symbol, ...]


@dataclass(frozen=True)
class Grammar:
    """Attributes:
    rules: the alternatives of each; the first rule is the whole.
    """

    rules: tuple[tuple[Alternative, ...], ...]

    def lark(self) -> str:
        return "start: r0\n" + self._written(": ", "/{}/")

    def gbnf(self) -> str:
        return "root ::= r0\n" + self._written(" ::= ", "{}")

    def matches(self, text: str) -> bool:
        """Whether the whole text is of the language; by recursive descent that remembers."""

        @cache
        def ends_of_rule(rule: int, start: int) -> frozenset[int]:
            found = (ends(one, start) for one in self.rules[rule])
            return frozenset().union(*found)

        def ends(alternative: Alternative, start: int) -> set[int]:
            places = {start}
            for symbol in alternative:
                places = {end for place in places for end in ends_of(symbol, place)}
            return places

        def ends_of(symbol: Symbol, start: int) -> frozenset[int]:
            if symbol.kind == "rule":
                return ends_of_rule(int(symbol.text), start)
            if symbol.kind == "class":
                fits = text[start : start + 1] in tuple(CLASSES[symbol.text])
                return frozenset([start + 1] if fits else [])
            fits = text.startswith(symbol.text, start)
            return frozenset([start + len(symbol.text)] if fits else [])

        return len(text) in ends_of_rule(0, 0)

    def _written(self, defines: str, around_class: str) -> str:
        def written(symbol: Symbol) -> str:
            if symbol.kind == "rule":
                return f"r{symbol.text}"
            if symbol.kind == "class":
                return around_class.format(symbol.text)
            return json.dumps(symbol.text)

        lines = (
            f"r{number}{defines}" + " | ".join(" ".join(map(written, one)) for one in rule)
            for number, rule in enumerate(self.rules)
        )
        return "\n".join(lines) + "\n"


def grammars(count: int, seed: int) -> list[Grammar]:
    return [_grammar(random.Random(f"{seed}/{number}")) for number in range(count)]


def _grammar(rng: random.Random) -> Grammar:
    count = rng.randint(2, RULES)
    return Grammar(tuple(_rule(rng, number, count) for number in range(count)))


def _rule(rng: random.Random, number: int, count: int) -> tuple[Alternative, ...]:
    forward = [_forward(rng, number, count) for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.4:
        opening, closing = rng.choice(BRACKETS)
        back = Symbol("rule", str(rng.randint(0, number)))
        forward.append((Symbol("text", opening), back, Symbol("text", closing)))
    return tuple(forward)


def _forward(rng: random.Random, number: int, count: int) -> Alternative:
    """It leads to later rules alone."""
    symbols = [_terminal(rng)]
    for _ in range(rng.randint(0, 3)):
        later = number + 1 < count and rng.random() < 0.5
        symbols.append(
            Symbol("rule", str(rng.randint(number + 1, count - 1))) if later else _terminal(rng)
        )
    return tuple(symbols)


def _terminal(rng: random.Random) -> Symbol:
    if rng.random() < 0.4:
        return Symbol("class", rng.choice(list(CLASSES)))
    return Symbol(
        "text", "".join(rng.choices(string.ascii_lowercase + "+-=,", k=rng.randint(1, 5)))
    )
