"""Reading streams of answers as the servers of this world write them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vivace.bench.events import AnswerClock, AnswerError, EventReader

pytestmark = pytest.mark.tiny


def text(content: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": content, "finish_reason": finish}]}


def chat(finish: str | None = None, **delta: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def usage(prompt: int, completion: int) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


def read(*chunks: dict[str, Any]) -> AnswerClock:
    """An answer sent at 10 s whose chunks came at 11 s, 12 s and so on."""
    answer = AnswerClock(10.0)
    for second, chunk in enumerate(chunks, 11):
        answer.take(json.dumps(chunk).encode(), float(second))
    return answer


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_events_are_whole_however_they_are_cut(end: bytes, size: int) -> None:
    lines = [b": ping", b"event: x", b'data: {"a": 1}', b"", b"data:[DONE]", b"", b""]
    stream = end.join(lines)
    reader = EventReader()
    events = []
    for start in range(0, len(stream), size):
        events += reader.feed(stream[start : start + size])
    assert events == [b'{"a": 1}', b"[DONE]"]


def test_the_last_line_may_lack_its_end() -> None:
    reader = EventReader()
    assert reader.feed(b"data: 1\ndata: 2") == [b"1"]
    assert reader.end() == [b"2"]
    assert reader.end() == []


def test_a_completion() -> None:
    chunks = (text("a"), text(" b"), text("c", "length"), usage(7, 3))
    outcome = read(*chunks).outcome(started=9.0, prompt_tokens=5)
    assert (outcome.start, outcome.ttft, outcome.latency) == (1.0, 1.0, 3.0)
    assert outcome.itls == (1.0, 1.0)
    assert (outcome.input_len, outcome.output_len, outcome.counted) == (7, 3, True)
    assert (outcome.text, outcome.error) == ("a bc", None)
    assert outcome.tpot == 1.0


def test_the_role_and_an_end_without_text_are_no_tokens() -> None:
    chunks = (
        chat(role="assistant", content=""),
        chat(content="a"),
        chat(content="b"),
        chat("stop"),
    )
    outcome = read(*chunks).outcome(10.0, None)
    assert (outcome.ttft, outcome.itls, outcome.latency) == (2.0, (1.0,), 4.0)
    assert (outcome.input_len, outcome.output_len, outcome.counted) == (None, 2, False)


def test_tokens_without_text_count_where_the_server_names_them() -> None:
    silent = text("", "length")
    silent["choices"][0]["token_ids"] = [5]
    assert read(text("a"), text(""), silent).outcome(10.0, None).output_len == 3


def test_thoughts_are_tokens() -> None:
    outcome = read(chat(reasoning_content="hm"), chat(content="a")).outcome(10.0, None)
    assert (outcome.ttft, outcome.text) == (1.0, "hma")


def test_a_single_token_has_no_time_per_output_token() -> None:
    outcome = read(text("a", "length"), usage(1, 1)).outcome(10.0, None)
    assert outcome.tpot is None
    assert outcome.itls == ()


def test_done_is_not_an_event_to_read() -> None:
    answer = read(text("a"))
    answer.take(b"[DONE]", 99.0)
    assert answer.outcome(10.0, None).latency == 1.0


@pytest.mark.parametrize(
    "event",
    [
        b"nonsense",
        b"[1]",
        b'{"error": {"message": "out of memory"}}',
        b'{"choices": ["x"]}',
        b'{"choices": 3}',
        b'{"choices": [{"delta": "x"}]}',
        b'{"choices": [{"text": 3, "delta": {"content": 3}}]}',
    ],
)
def test_what_is_no_chunk_is_refused_and_shown(event: bytes) -> None:
    with pytest.raises(AnswerError) as refused:
        AnswerClock(0.0).take(event, 1.0)
    assert event.decode() in str(refused.value)


@pytest.mark.parametrize("chunks", [(), (chat("stop", role="assistant"),), (usage(1, 0),)])
def test_an_answer_without_a_token_failed(chunks: tuple[dict[str, Any], ...]) -> None:
    with pytest.raises(AnswerError):
        read(*chunks).outcome(10.0, None)
