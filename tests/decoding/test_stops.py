"""Text as it streams, and every way that an answer can end."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from vivace.core.request import Request
from vivace.core.sampling import SamplingParams
from vivace.core.step import Advance, Picked, ScheduledSequence
from vivace.decoding.stops import OutputText, first_stop
from vivace.text.held import num_held
from vivace.text.tokenizer import Tokenizer

pytestmark = pytest.mark.tiny

WORDS = ["<s>", "</s>", *"abcdexy", "ab", "bc", "hello", " ", "\n", "é", "end"]
EOS = 1


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    from tokenizers import AddedToken, decoders, models
    from tokenizers import Tokenizer as RustTokenizer

    vocab = {word: place for place, word in enumerate(WORDS)}
    rust = RustTokenizer(models.WordLevel(vocab, unk_token="<s>"))
    rust.decoder = decoders.Fuse()
    rust.add_tokens([AddedToken(word, special=True) for word in WORDS[:2]])
    return Tokenizer(rust)


@dataclass
class Run:
    """What a caller sees of one answer."""

    text: str
    pieces: list[str]
    num_tokens: int
    finish_reason: str | None
    stop_reason: int | str | None


def run(tokenizer: Tokenizer | None, params: SamplingParams, words: list[str]) -> Run:
    """Feed tokens as the engine would, until the answer ends."""
    output = OutputText(tokenizer, (EOS,))
    request = Request("r", (5, 6), params)
    output.add(request)
    token_ids, pieces, advance = [5, 6], [], Advance("r")
    for word in words:
        sequence = ScheduledSequence(request, token_ids, len(token_ids) - 1, 1, ((),), True)
        token_id = WORDS.index(word)
        advance = output.advance(sequence, Picked("r", token_id))
        token_ids.append(token_id)
        pieces.append(advance.text)
        if advance.finish_reason:
            break
    output.remove("r")
    finish, stop = advance.finish_reason, advance.stop_reason
    return Run("".join(pieces), pieces, len(token_ids) - 2, finish, stop)


def params(**fields: object) -> SamplingParams:
    return SamplingParams(**{"max_tokens": 100, **fields})  # type: ignore[arg-type]


def test_an_end_token_ends_without_its_text(tokenizer: Tokenizer) -> None:
    result = run(tokenizer, params(skip_special_tokens=False), ["hello", "</s>", "a"])
    assert (result.text, result.num_tokens) == ("hello", 2)
    assert (result.finish_reason, result.stop_reason) == ("stop", None)


def test_ignore_eos_goes_on(tokenizer: Tokenizer) -> None:
    result = run(tokenizer, params(ignore_eos=True, max_tokens=3), ["a", "</s>", "b", "c"])
    assert (result.text, result.finish_reason) == ("ab", "length")
    shown = params(ignore_eos=True, max_tokens=3, skip_special_tokens=False)
    assert run(tokenizer, shown, ["a", "</s>", "b"]).text == "a</s>b"


def test_a_stop_token_gives_its_id(tokenizer: Tokenizer) -> None:
    stop = WORDS.index("end")
    result = run(tokenizer, params(stop_token_ids=(stop,)), ["a", "end", "b"])
    assert (result.text, result.finish_reason, result.stop_reason) == ("a", "stop", stop)
    included = params(stop_token_ids=(stop,), include_stop_str_in_output=True)
    assert run(tokenizer, included, ["a", "end", "b"]).text == "aend"


def test_an_ignored_end_token_may_still_be_a_stop_token(tokenizer: Tokenizer) -> None:
    result = run(tokenizer, params(ignore_eos=True, stop_token_ids=(EOS,)), ["a", "</s>"])
    assert (result.finish_reason, result.stop_reason) == ("stop", EOS)


def test_length_ends_and_gives_what_was_held(tokenizer: Tokenizer) -> None:
    result = run(tokenizer, params(max_tokens=2, stop=("bcd",)), ["a", "b", "c"])
    assert result.pieces == ["a", "b"]
    assert (result.finish_reason, result.stop_reason) == ("length", None)


def test_a_stop_string_across_tokens_is_never_shown(tokenizer: Tokenizer) -> None:
    result = run(tokenizer, params(stop=("cde",)), ["ab", "c", "d", "e", "x"])
    assert result.pieces == ["ab", "", "", ""]
    assert (result.finish_reason, result.stop_reason) == ("stop", "cde")


def test_a_stop_string_is_cut_out_of_its_token(tokenizer: Tokenizer) -> None:
    assert run(tokenizer, params(stop=("ll",)), ["a", "hello"]).text == "ahe"
    included = params(stop=("ll",), include_stop_str_in_output=True)
    assert run(tokenizer, included, ["a", "hello"]).text == "ahell"


def test_held_text_comes_once_it_cannot_be_a_stop(tokenizer: Tokenizer) -> None:
    result = run(tokenizer, params(stop=("abx",)), ["a", "b", "y", "a", "</s>"])
    assert result.pieces == ["", "", "aby", "", "a"]


def test_a_stop_string_at_the_last_token_wins_over_length(tokenizer: Tokenizer) -> None:
    result = run(tokenizer, params(max_tokens=2, stop=("b",)), ["a", "b"])
    assert (result.text, result.finish_reason, result.stop_reason) == ("a", "stop", "b")


def test_no_stop_before_min_tokens(tokenizer: Tokenizer) -> None:
    result = run(tokenizer, params(stop=("a",), min_tokens=2), ["a", "a", "b", "a", "b"])
    assert (result.text, result.num_tokens) == ("aab", 4)
    tokens = params(stop_token_ids=(WORDS.index("x"),), min_tokens=2)
    assert run(tokenizer, tokens, ["x", "x", "x"]).num_tokens == 3


def test_a_stop_string_begun_before_min_tokens_counts(tokenizer: Tokenizer) -> None:
    result = run(tokenizer, params(stop=("abc",), min_tokens=2), ["a", "b", "c"])
    assert (result.text, result.stop_reason) == ("", "abc")


def test_without_a_tokenizer_tokens_still_end(tokenizer: Tokenizer) -> None:
    assert run(None, params(), ["a", "</s>"]).finish_reason == "stop"
    result = run(None, params(max_tokens=2, stop=("b",)), ["a", "b"])
    assert (result.text, result.finish_reason) == ("", "length")


def test_each_request_keeps_its_own_text(tokenizer: Tokenizer) -> None:
    output = OutputText(tokenizer, (EOS,))
    requests = [Request(name, (5,), params(stop=(name + "c",))) for name in ("a", "b")]
    sequences = []
    for request in requests:
        output.add(request)
        sequences.append(ScheduledSequence(request, [5], 0, 1, ((),), True))
    advances = [
        output.advance(one, Picked(one.request.request_id, WORDS.index("a"))) for one in sequences
    ]
    assert advances == [Advance("a", ""), Advance("b", "a")]
    output.remove("nobody")


def test_the_stop_that_is_complete_first_is_found() -> None:
    match = first_stop("a", "bcd", ["abcd", "bc", "c"])
    assert match is not None
    assert (match.stop, match.start, match.end) == ("bc", 1, 3)
    assert first_stop("ab", "x", ["ab"]) is None


def test_held_is_the_longest_end_that_begins_a_stop() -> None:
    assert num_held("xaba", ["abab", "ac"]) == 3
    assert num_held("xyz", ["a"]) == 0
    assert num_held("a", ["a"]) == 0
    assert num_held("xy", []) == 0


def test_what_is_found_does_not_depend_on_where_tokens_part_the_text(tokenizer: Tokenizer) -> None:
    """Against the plain rule: cut the whole text where some stop string is complete first."""
    rng = random.Random(1)
    letters = [word for word in WORDS[2:] if set(word) <= set("abcde")]
    for _ in range(500):
        words = [rng.choice(letters) for _ in range(12)]
        stops = tuple("".join(rng.choices("abcd", k=rng.randint(1, 4))) for _ in range(3))
        text = "".join(words)
        ends = [end for end in range(len(text) + 1) if text[:end].endswith(stops)]
        expected = text
        if ends:
            longest = max((s for s in stops if text[: ends[0]].endswith(s)), key=len)
            expected = text[: ends[0] - len(longest)]
        result = run(tokenizer, params(stop=stops), [*words, "</s>"])
        assert result.text == expected
        assert bool(ends) == (result.stop_reason is not None)
