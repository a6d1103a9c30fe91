"""Traces: what a line may say, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from vivace.bench.simulate.trace import begun, make_requests, read_trace
from vivace.core.errors import UsageError

pytestmark = pytest.mark.tiny


def write(folder: Path, *lines: str) -> Path:
    file = folder / "trace.jsonl"
    file.write_text("\n".join(lines))
    return file


def test_a_trace_is_sorted_by_arrival(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        '{"arrival_seconds": 2.5, "prompt_len": 30, "max_tokens": 4, "prefix_id": "a"}',
        "",
        '{"prompt_tokens": [5, 6], "max_tokens": 1, "priority": -1, "tenant": "t", "deadline": 9}',
    )
    second, first = make_requests(read_trace(file), 100, 50)[::-1]
    assert first.prompt_token_ids == (5, 6)
    assert (first.arrival, first.priority, first.deadline, first.tenant) == (0.0, -1, 9.0, "t")
    assert (second.arrival, len(second.prompt_token_ids)) == (2.5, 30)
    assert second.params.max_tokens == 4
    later = begun(first, 100.0)
    assert (later.arrival, later.deadline) == (100.0, 109.0)


def test_equal_prefixes_are_equal_and_the_rest_differs(tmp_path: Path) -> None:
    line = '{"prompt_len": 40, "max_tokens": 1, "prefix_id": "%s", "prefix_len": 30}'
    rows = read_trace(write(tmp_path, line % "a", line % "a", line % "b"))
    one, other, apart = (request.prompt_token_ids for request in make_requests(rows, 1000, 99))
    assert one[:30] == other[:30] != apart[:30]
    assert one[30:] != other[30:]
    assert [request.prompt_token_ids for request in make_requests(rows, 1000, 99)] == [
        one,
        other,
        apart,
    ]


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("{", "no JSON object"),
        ("3", "no JSON object"),
        ('{"prompt_len": 3}', '"max_tokens" must be an integer from 1 on'),
        ('{"max_tokens": 3}', '"prompt_len" must be'),
        ('{"prompt_len": 3.5, "max_tokens": 3}', '"prompt_len" must be'),
        ('{"prompt_len": 3, "max_tokens": true}', '"max_tokens" must be'),
        ('{"prompt_len": 3, "max_tokens": 3, "arrival_seconds": -1}', '"arrival_seconds" must be'),
        ('{"prompt_len": 3, "max_tokens": 3, "deadline": "soon"}', '"deadline" must be'),
        ('{"prompt_len": 3, "max_tokens": 3, "arrival_seconds": NaN}', '"arrival_seconds" must'),
        ('{"prompt_len": 3, "max_tokens": 3, "tenant": 5}', '"tenant" must be text'),
        ('{"prompt_len": 3, "max_tokens": 3, "priority": 0.5}', '"priority" must be an integer'),
        ('{"prompt_tokens": [], "max_tokens": 3}', '"prompt_tokens" must be'),
        ('{"prompt_tokens": [-1], "max_tokens": 3}', '"prompt_tokens" must be'),
        ('{"prompt_tokens": [1], "prompt_len": 2, "max_tokens": 3}', "take no prompt_len"),
        ('{"prompt_len": 3, "max_tokens": 3, "colour": 1}', "'colour' is unknown"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, wrong: str) -> None:
    file = write(tmp_path, '{"prompt_len": 3, "max_tokens": 3}', line)
    with pytest.raises(UsageError, match=r"trace\.jsonl, line 2: ") as raised:
        read_trace(file)
    assert wrong in str(raised.value)


def test_a_missing_or_empty_trace_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_trace(tmp_path / "nowhere.jsonl")
    with pytest.raises(UsageError, match="holds no requests"):
        read_trace(write(tmp_path, "", " "))
