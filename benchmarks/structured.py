"""Structured output: whether answers are what was asked for, whether they end, what that costs.

    python benchmarks/structured.py [--rounds 5] [--short]

vivace-mini, which knows nothing of the forms, answers to random JSON schemas, regexes and grammars,
every second time greedily; what ends by `stop` is checked by jsonschema, by Python's re and by a
recogniser of our own. Forms that explode are refused while another request runs beside them. The
throughput is that with and without a schema in turn, on random weights in int8 and on vivace-mini.
Prints one JSON object.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import jsonschema
from forms.grammars import Grammar, grammars
from forms.patterns import patterns
from forms.schemas import schemas
from forms.throughput import rates, share, with_tokenizer
from scheduling.command import Command, report
from scheduling.engines import start

from vivace import LLM, SamplingParams, StructuredOutputsParams
from vivace.core.config import EngineConfig
from vivace.core.request import CompletionOutput

MAX_TOKENS = 512
PROMPT = "answer = "
AT_ONCE = 100
SEED = 0


@dataclass(frozen=True)
class Sizes:
    """Attributes:
    schemas, patterns, grammars: how many random ones are asked for.
    preset: of the random model in int8 that the throughput is measured with; None is none.
    batches: requests at once.
    tokens: of an answer, for the throughput.
    """

    schemas: int
    patterns: int
    grammars: int
    preset: str | None
    batches: tuple[int, ...]
    tokens: int


FULL = Sizes(1000, 100, 50, "0.35b", (1, 8, 32), 96)
SHORT = Sizes(20, 10, 6, None, (1, 2), 16)


class Asked(NamedTuple):
    """A form, and whether an answer has it."""

    form: StructuredOutputsParams
    fits: Callable[[str], bool]


def measure(sizes: Sizes, rounds: int) -> dict[str, Any]:
    llm = LLM(notify=report)
    asked = {
        "schemas": [_schema(one) for one in schemas(sizes.schemas, SEED)],
        "patterns": [_pattern(one) for one in patterns(sizes.patterns, SEED)],
        "grammars": [_grammar(*one) for one in enumerate(grammars(sizes.grammars, SEED))],
    }
    validity = {name: _answers(llm, name, each) for name, each in asked.items()}
    refusals = {name: _refusal(llm, form) for name, form in explosions().items()}
    llm.close()
    return {
        "validity": validity,
        "refusals": refusals,
        "throughput": throughput(sizes, rounds),
    }


def throughput(sizes: Sizes, rounds: int) -> dict[str, Any]:
    """By model and requests at once: rates with and without, and their ratio."""
    configs = {"vivace-mini": EngineConfig()}
    if sizes.preset is not None:
        folder = with_tokenizer(sizes.preset)
        configs[sizes.preset] = EngineConfig(str(folder), quantize="int8")
    found = {}
    for name, config in configs.items():
        core = start(config)
        measured = rates(core, sizes.batches, sizes.tokens, rounds)
        core.close()
        found[name] = {batch: {**one, "share": share(one)} for batch, one in measured.items()}
        report(f"{name}: {[one['share'] for one in found[name].values()]}")
    return found


def _schema(schema: dict[str, Any]) -> Asked:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    validator = jsonschema.Draft202012Validator(schema, format_checker=checker)

    def fits(text: str) -> bool:
        try:
            value = json.loads(text, parse_float=Decimal)
        except ValueError:
            return False
        return bool(validator.is_valid(value))

    return Asked(StructuredOutputsParams(json=schema), fits)


def _pattern(pattern: str) -> Asked:
    compiled = re.compile(pattern)

    def fits(text: str) -> bool:
        return compiled.fullmatch(text) is not None

    return Asked(StructuredOutputsParams(regex=pattern), fits)


def _grammar(number: int, grammar: Grammar) -> Asked:
    """Every second one as GBNF."""
    text = grammar.gbnf() if number % 2 else grammar.lark()
    return Asked(StructuredOutputsParams(grammar=text), grammar.matches)


def _answers(llm: LLM, name: str, asked: Sequence[Asked]) -> dict[str, Any]:
    reasons: Counter[str] = Counter()
    tokens, wrong, unended = 0, [], []
    for first in range(0, len(asked), AT_ONCE):
        part = asked[first : first + AT_ONCE]
        for one, answer in zip(part, _answered(llm, part, first), strict=True):
            reasons[str(answer.finish_reason)] += 1
            tokens += len(answer.token_ids)
            form = getattr(one.form, one.form.kind)
            told = {"form": form, "text": answer.text, "error": answer.error}
            if answer.finish_reason != "stop":
                unended.append(told)
            elif not one.fits(answer.text):
                wrong.append(told)
        report(f"{first + len(part)} of {len(asked)} {name}, {len(wrong)} wrong")
    return {
        "asked": len(asked),
        "reasons": dict(reasons),
        "tokens": tokens,
        "wrong": len(wrong),
        "examples": {"wrong": wrong[:5], "unended": unended[:5]},
    }


def _answered(llm: LLM, asked: Sequence[Asked], seed: int) -> list[CompletionOutput]:
    params = [
        SamplingParams(
            temperature=float(place % 2),
            seed=seed + place,
            max_tokens=MAX_TOKENS,
            structured_outputs=one.form,
        )
        for place, one in enumerate(asked)
    ]
    return [output.outputs[0] for output in llm.generate([PROMPT] * len(asked), params)]


def explosions() -> dict[str, StructuredOutputsParams]:
    """Forms that take more than anybody can give them."""
    nested: dict[str, Any] = {"$ref": "#/$defs/d9", "$defs": {"d0": {"type": "object"}}}
    for i in range(1, 10):
        parts = [{"$ref": f"#/$defs/d{i - 1}"}, {"properties": {f"p{i}": {"type": "integer"}}}]
        nested["$defs"][f"d{i}"] = {"allOf": [{"anyOf": parts}, {"anyOf": parts[::-1]}]}
    narrow = [{"pattern": f"{chr(97 + place)}.{{{20 + place}}}"} for place in range(12)]
    either = "|".join(f"[a-z]{{0,{most}}}x[a-z]{{0,{most}}}y" for most in range(1, 2000))
    return {
        "nested allOf and anyOf": StructuredOutputsParams(json=nested),
        "patterns that meet": StructuredOutputsParams(json={"type": "string", "allOf": narrow}),
        "large regex": StructuredOutputsParams(regex=f"({either})"),
        "remainders": StructuredOutputsParams(json={"type": "integer", "multipleOf": 9_999_991}),
    }


def _refusal(llm: LLM, form: StructuredOutputsParams) -> dict[str, Any]:
    """Seconds until a form was refused, and whether what ran beside it came to its end."""
    beside = SamplingParams(max_tokens=8, ignore_eos=True)
    began = time.monotonic()
    refused, other = llm.generate(
        [PROMPT] * 2, [SamplingParams(max_tokens=MAX_TOKENS, structured_outputs=form), beside]
    )
    return {
        "seconds": time.monotonic() - began,
        "refused": refused.outputs[0].finish_reason == "error",
        "said": refused.outputs[0].error,
        "beside": other.outputs[0].finish_reason == "length",
    }


if __name__ == "__main__":
    Command(
        about="Structured output: validity, ends, refusals and throughput.",
        takes="2 minutes",
        full=FULL,
        short=SHORT,
        measure=measure,
    ).main()
