"""What a caller may ask of decoding: `SamplingParams`, with vLLM's names and defaults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vivace.core.errors import RequestError
from vivace.core.kinds import is_integer, is_number
from vivace.core.structured import StructuredOutputsParams

MAX_LOGPROBS = 20
MAX_CHOICES = 128

_INTEGERS = ("n", "top_k", "min_tokens")
_OPTIONAL_INTEGERS = ("seed", "max_tokens", "logprobs", "prompt_logprobs")
_NUMBERS = (
    "temperature",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)


@dataclass(frozen=True)
class SamplingParams:
    """How to turn logits into tokens, and when to stop.

    Attributes:
        n: completions to return.
        temperature: 0 is greedy.
        top_k: keep the k likeliest tokens; 0 or -1 keeps all.
        top_p: keep the smallest set whose probability reaches it, in (0, 1].
        min_p: keep tokens at least this fraction as likely as the likeliest, in [0, 1].
        repetition_penalty: >1 discourages tokens of prompt and output (1 is off).
        presence_penalty: subtracted once from tokens already in the output, in [-2, 2].
        frequency_penalty: subtracted per occurrence in the output, in [-2, 2].
        logit_bias: token id to a bias in [-100, 100], added to its logit.
        allowed_token_ids: no other token is drawn; None allows all.
        bad_words: texts that the output never completes, token by token as the tokenizer writes
            them, alone and behind a space.
        seed: fixes the random stream: the same answer whatever else runs.
        stop: strings that end the answer; they are not part of it.
        stop_token_ids: tokens that end the answer.
        include_stop_str_in_output: keep the stop string in the text.
        ignore_eos: go on after an end token.
        max_tokens: at most this many new tokens; None means up to the context's end.
        min_tokens: no stop before this many new tokens.
        logprobs: for each new token its log-probability and that many likeliest others.
        prompt_logprobs: likewise for each token of the prompt but the first. The prompt is then
            computed whole, whatever the prefix cache knows of it.
        skip_special_tokens: leave special tokens out of the text.
        structured_outputs: what the answer's text must be. Once it is complete the answer ends,
            whatever `min_tokens` and `ignore_eos` say.

    Raises:
        RequestError: a value is of a wrong type or out of range; `param` names it.
    """

    n: int = 1
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    allowed_token_ids: tuple[int, ...] | None = None
    bad_words: tuple[str, ...] = ()
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    skip_special_tokens: bool = True
    structured_outputs: StructuredOutputsParams | None = None

    def __post_init__(self) -> None:
        for param in _INTEGERS:
            self._require(param, is_integer(getattr(self, param)), "an integer")
        for param in _OPTIONAL_INTEGERS:
            value = getattr(self, param)
            self._require(param, value is None or is_integer(value), "an integer or None")
        for param in _NUMBERS:
            self._require(param, is_number(getattr(self, param)), "a number")
        given = self.structured_outputs
        holds = given is None or isinstance(given, StructuredOutputsParams)
        self._require("structured_outputs", holds, "a StructuredOutputsParams")
        self._settle_texts("stop")
        self._settle_texts("bad_words")
        self._settle_ids("stop_token_ids")
        if self.allowed_token_ids is not None:
            self._settle_ids("allowed_token_ids")
        self._settle_bias()
        for param, holds, rule in self._rules():
            self._require(param, holds, rule)

    def _settle_texts(self, param: str) -> None:
        """One string or any iterable becomes a tuple, None an empty one."""
        given = getattr(self, param)
        texts = _items((given,) if isinstance(given, str) else given)
        holds = texts is not None and all(isinstance(text, str) for text in texts)
        self._require(param, holds, "a string or a list of strings")
        object.__setattr__(self, param, texts)

    def _settle_ids(self, param: str) -> None:
        """Any iterable becomes a tuple, None an empty one."""
        ids = _items(getattr(self, param))
        self._require(param, ids is not None and all(map(is_integer, ids)), "a list of integers")
        object.__setattr__(self, param, ids)

    def _settle_bias(self) -> None:
        """None becomes an empty map."""
        bias = {} if self.logit_bias is None else self.logit_bias
        self._require(
            "logit_bias",
            isinstance(bias, Mapping)
            and all(map(is_integer, bias))
            and all(map(is_number, bias.values())),
            "a map of token ids to numbers",
        )
        object.__setattr__(self, "logit_bias", bias)

    def _require(self, param: str, holds: bool, rule: str) -> None:
        if not holds:
            raise RequestError(f"{param} must be {rule}, got {getattr(self, param)!r}.", param)

    def _rules(self) -> list[tuple[str, bool, str]]:
        """Each rule: the parameter, whether it holds (False for NaN too), and its wording."""
        top = self.max_tokens
        return [
            ("n", 1 <= self.n <= MAX_CHOICES, f"from 1 to {MAX_CHOICES}"),
            ("temperature", 0 <= self.temperature <= 100, "from 0 to 100"),
            ("top_k", self.top_k >= -1, "0 or -1 (all), or a positive count"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("min_p", 0 <= self.min_p <= 1, "from 0 to 1"),
            ("repetition_penalty", 0 < self.repetition_penalty <= 100, "above 0 and at most 100"),
            ("presence_penalty", -2 <= self.presence_penalty <= 2, "from -2 to 2"),
            ("frequency_penalty", -2 <= self.frequency_penalty <= 2, "from -2 to 2"),
            (
                "logit_bias",
                all(-100 <= bias <= 100 for bias in self.logit_bias.values()),
                "a map of token ids to values from -100 to 100",
            ),
            ("stop", all(self.stop), "free of empty strings"),
            ("bad_words", all(map(_is_word, self.bad_words)), "words in valid Unicode"),
            ("allowed_token_ids", self.allowed_token_ids != (), "a list of at least one token"),
            ("max_tokens", top is None or top >= 1, "at least 1"),
            (
                "min_tokens",
                0 <= self.min_tokens <= (top or self.min_tokens),
                "from 0 to max_tokens",
            ),
            ("logprobs", _is_count(self.logprobs), f"from 0 to {MAX_LOGPROBS}"),
            ("prompt_logprobs", _is_count(self.prompt_logprobs), f"from 0 to {MAX_LOGPROBS}"),
        ]

    @property
    def greedy(self) -> bool:
        return self.temperature == 0


def _is_count(logprobs: int | None) -> bool:
    return logprobs is None or 0 <= logprobs <= MAX_LOGPROBS


def _is_word(text: str) -> bool:
    """Whether a tokenizer can write it: it is not empty and holds no lone surrogate."""
    return bool(text.strip()) and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _items(given: Any) -> tuple[Any, ...] | None:
    """None where `given` cannot be a list."""
    if given is None:
        return ()
    return tuple(given) if isinstance(given, Iterable) else None
