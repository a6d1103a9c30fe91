"""What is asked: lengths as told, prompts that differ, and files of prompts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.text.trained import byte_level
from vivace.bench.plans import WorkloadPlan
from vivace.bench.prompts import make_prompts, random_lengths
from vivace.core.errors import UsageError
from vivace.text.tokenizer import load_tokenizer

pytestmark = pytest.mark.tiny


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def test_token_ids() -> None:
    prompts = make_prompts(WorkloadPlan(20, 9, 5, vocab_size=50), False, rng())
    contents = [prompt.content for prompt in prompts]
    assert all(isinstance(content, list) and len(content) == 9 for content in contents)
    assert {type(token) for content in contents for token in content} == {int}
    assert {int(token) for content in contents for token in content} <= set(range(50))
    assert len({tuple(content) for content in contents}) == 20
    assert {(prompt.input_len, prompt.output_len) for prompt in prompts} == {(9, 5)}


def test_a_seed_fixes_the_prompts() -> None:
    plan = WorkloadPlan(5, 9, 5, range_ratio=0.5)
    assert make_prompts(plan, False, rng()) == make_prompts(plan, False, rng())


def test_lengths_spread_evenly_over_their_range() -> None:
    lengths = np.asarray(random_lengths(100, 0.2, 5000, rng()))
    assert (lengths.min(), lengths.max()) == (80, 120)
    assert lengths.mean() == pytest.approx(100, rel=0.01)
    assert random_lengths(7, 0.0, 3, rng()) == [7, 7, 7]
    assert min(random_lengths(1, 0.9, 100, rng())) == 1


def test_text_without_a_tokenizer_leaves_the_counting_to_the_server() -> None:
    plan = WorkloadPlan(3, 9, 5, text_prompts=True)
    for prompt in make_prompts(plan, False, rng()):
        assert isinstance(prompt.content, str)
        assert len(prompt.content.split()) == 9
        assert prompt.input_len is None


def test_text_of_an_exact_length(tmp_path: Path) -> None:
    byte_level().save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer is not None
    plan = WorkloadPlan(20, 9, 5, tokenizer=tmp_path)
    prompts = make_prompts(plan, True, rng())
    assert {prompt.input_len for prompt in prompts} == {9}
    assert all(len(tokenizer.encode(str(prompt.content))) == 9 for prompt in prompts)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tokenizer\.json"):
        make_prompts(WorkloadPlan(tokenizer=tmp_path), True, rng())


def test_a_data_set_starts_over_where_it_is_short(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "a", "output_len": 3, "id": 9}\n\n{"prompt": [1, 2]}\n')
    first, second, third = make_prompts(WorkloadPlan(3, output_len=8, dataset=file), False, rng())
    assert (first.content, first.input_len, first.output_len) == ("a", None, 3)
    assert (second.content, second.input_len, second.output_len) == ([1, 2], 2, 8)
    assert third == first


def test_a_chat_cannot_be_asked_token_ids(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": [1, 2]}')
    with pytest.raises(UsageError, match="text"):
        make_prompts(WorkloadPlan(dataset=file), True, rng())


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[]",
        "{}",
        '{"prompt": ""}',
        '{"prompt": []}',
        '{"prompt": [1, "2"]}',
        '{"prompt": [true]}',
        '{"prompt": "x", "output_len": 0}',
        '{"prompt": "x", "output_len": "5"}',
        "",
    ],
)
def test_a_bad_line_is_refused_by_its_number(tmp_path: Path, line: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(line)
    with pytest.raises(UsageError, match=r"line 1|holds no prompts"):
        make_prompts(WorkloadPlan(dataset=file), False, rng())


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        make_prompts(WorkloadPlan(dataset=tmp_path / "none"), False, rng())


@pytest.mark.parametrize("ratio", [-0.1, 1.0])
def test_a_ratio_out_of_range_is_refused(ratio: float) -> None:
    with pytest.raises(UsageError):
        WorkloadPlan(range_ratio=ratio)
