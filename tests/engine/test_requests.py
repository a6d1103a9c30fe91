"""Admission: what is refused, and what the engine can rely on afterwards."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vivace.core.errors import RequestError
from vivace.core.request import Delta, Logprob
from vivace.core.sampling import SamplingParams
from vivace.core.stats import EngineInfo
from vivace.engine.outputs import Collector
from vivace.engine.requests import fan_out

pytestmark = pytest.mark.tiny

INFO = EngineInfo(
    model_name="m",
    folder=".",
    family="llama",
    backend="reference",
    dtype="float32",
    vocab_size=100,
    max_model_len=20,
    eos_token_ids=(0,),
    num_pages=8,
    page_tokens=16,
    max_num_seqs=4,
    max_num_batched_tokens=32,
    threads=1,
    load_seconds=0.0,
)


@pytest.mark.parametrize(
    ("prompt", "params", "param", "says"),
    [
        ([], {}, "prompt", "empty"),
        (range(20), {}, "prompt", "context of 20"),
        (range(21), {}, "prompt", "context is 20"),
        ([100], {}, "prompt", "0 to 99"),
        ([-1], {}, "prompt", "0 to 99"),
        ([1], {"stop_token_ids": [100]}, "stop_token_ids", "0 to 99"),
        ([1], {"logit_bias": {-3: 1.0}}, "logit_bias", "0 to 99"),
        ([1], {"allowed_token_ids": [4, 100]}, "allowed_token_ids", "0 to 99"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    prompt: list[int], params: dict[str, object], param: str, says: str
) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        fan_out(INFO, "r", prompt, SamplingParams(**params))  # type: ignore[arg-type]
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": -2}, "top_k"),
        ({"n": 0}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 3, "min_tokens": 4}, "min_tokens"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"stop": ["a", ""]}, "stop"),
        ({"bad_words": ["a", " "]}, "bad_words"),
        ({"bad_words": "\ud800"}, "bad_words"),
        ({"allowed_token_ids": []}, "allowed_token_ids"),
        ({"allowed_token_ids": [1.0]}, "allowed_token_ids"),
        ({"logprobs": 21}, "logprobs"),
        ({"logit_bias": {1: 101.0}}, "logit_bias"),
    ],
)
def test_parameters_out_of_range_are_refused_by_name(params: dict[str, object], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        SamplingParams(**params)  # type: ignore[arg-type]
    assert caught.value.param == param


@pytest.mark.parametrize("param", ["stop", "bad_words"])
def test_texts_need_a_tokenizer(param: str) -> None:
    info = replace(INFO, has_tokenizer=False)
    with pytest.raises(RequestError, match="needs a tokenizer") as caught:
        fan_out(info, "r", [1], SamplingParams(**{param: "a"}))  # type: ignore[arg-type]
    assert caught.value.param == param


def test_max_tokens_always_fits_the_context() -> None:
    prompt = list(range(15))
    for asked, settled in ((None, 5), (100, 5), (3, 3)):
        (request,) = fan_out(INFO, "r", prompt, SamplingParams(max_tokens=asked))
        assert request.params.max_tokens == settled
    (request,) = fan_out(INFO, "r", prompt, SamplingParams(max_tokens=100, min_tokens=50))
    assert request.params.min_tokens == 5


def test_n_completions_are_n_requests_told_apart_by_index() -> None:
    requests = fan_out(INFO, "r", [1, 2], SamplingParams(n=3, seed=4))
    assert [request.index for request in requests] == [0, 1, 2]
    assert len({request.request_id for request in requests}) == 3
    assert {request.params.n for request in requests} == {1}


def test_a_collector_gathers_deltas_of_all_completions() -> None:
    requests = fan_out(INFO, "r", [1, 2], SamplingParams(n=2, logprobs=0))
    collector = Collector("r", "text", requests)
    first, second = (request.request_id for request in requests)
    collector.take(Delta(second, (7,), "b", ({7: Logprob(-0.5, 1)},), num_cached_tokens=1))
    assert not collector.take(Delta(first, finish_reason="abort")).finished
    output = collector.take(Delta(second, (8,), "c", ({8: Logprob(-1.0, 2)},), "length"))
    assert output.finished
    assert output.num_cached_tokens == 1
    assert output.outputs[0].finish_reason == "abort"
    assert output.outputs[1].token_ids == [7, 8]
    assert output.outputs[1].text == "bc"
    assert output.outputs[1].cumulative_logprob == -1.5
