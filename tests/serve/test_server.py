"""The whole system: server process, engine process, a tiny random model, OpenAI's client."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryFile

import httpx
import numpy as np
import openai
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.serve.checkpoint import CONTEXT
from tests.serve.process import failing, served, start
from tests.serve.scripted import wait_until
from vivace import LLM
from vivace.serve.server import listen

PROMPT = "def main():\n"
MESSAGES = [{"role": "user", "content": "naïve café"}]


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


@asynccontextmanager
async def async_client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120
    ) as client:
        yield client


def metrics(url: str) -> dict[str, float]:
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_no_token_waits_for_the_one_before_to_be_acknowledged() -> None:
    with listen("127.0.0.1", 0) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()):
            connection, _ = listener.accept()
            with connection:
                assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_models_are_listed(client: openai.OpenAI, model: Path) -> None:
    (card,) = client.models.list().data
    assert card.id == str(model)
    assert client.models.retrieve(card.id).id == card.id


def test_a_completion_is_the_same_streamed_or_not(client: openai.OpenAI, model: Path) -> None:
    asked = {"model": str(model), "prompt": PROMPT, "max_tokens": 24, "temperature": 0}
    whole = client.completions.create(**asked)
    assert whole.usage is not None
    assert 0 < whole.usage.completion_tokens <= 24
    with client.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    ) as events:
        *chunks, last = list(events)
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert last.usage is not None
    assert last.usage.total_tokens == whole.usage.total_tokens


def test_a_chat_is_the_same_streamed_or_not(client: openai.OpenAI, model: Path) -> None:
    asked = {"model": str(model), "messages": MESSAGES, "max_completion_tokens": 24, "seed": 3}
    whole = client.chat.completions.create(**asked)
    with client.chat.completions.create(**asked, stream=True) as events:
        chunks = list(events)
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content


def test_logprobs_in_both_formats(client: openai.OpenAI, model: Path) -> None:
    legacy = client.completions.create(
        model=str(model), prompt=PROMPT, max_tokens=5, temperature=0, logprobs=3
    ).choices[0]
    assert legacy.logprobs is not None
    assert len(legacy.logprobs.tokens or ()) == 5
    assert legacy.logprobs.token_logprobs == [
        max(top.values()) for top in legacy.logprobs.top_logprobs
    ]
    choice = client.chat.completions.create(
        model=str(model),
        messages=MESSAGES,
        max_tokens=5,
        temperature=0,
        logprobs=True,
        top_logprobs=3,
    ).choices[0]
    assert choice.logprobs is not None
    for entry in choice.logprobs.content or ():
        assert len(entry.top_logprobs) == 3
        assert entry.logprob == entry.top_logprobs[0].logprob
        assert entry.token == entry.top_logprobs[0].token


def scores(client: openai.OpenAI, model: Path, prompt: list[int], **asked: object) -> list[float]:
    choice = client.completions.create(
        model=str(model), prompt=prompt, echo=True, logprobs=1, **asked
    ).choices[0]
    assert choice.logprobs is not None
    first, *rest = choice.logprobs.token_logprobs or ()
    assert first is None
    return [value for value in rest if value is not None]


def test_a_prompts_log_likelihood_is_that_of_the_logits(client: openai.OpenAI, model: Path) -> None:
    """As lm-eval asks for it; the prompt is known to the cache."""
    llm = LLM(str(model), backend="reference", kv_memory_bytes=4 << 20, notify=lambda line: None)
    prompt = [5 + token % 300 for token in range(150)]
    logits = llm.logits(prompt).astype(np.float64)
    best = logits.max(axis=1, keepdims=True)
    logprobs = logits - best - np.log(np.exp(logits - best).sum(axis=1, keepdims=True))
    expected = logprobs[np.arange(149), prompt[1:]]
    client.completions.create(model=str(model), prompt=prompt, max_tokens=1)
    *of_prompt, _ = scores(client, model, prompt, max_tokens=1)
    np.testing.assert_allclose(of_prompt, expected, atol=1e-4)
    assert scores(client, model, prompt, max_tokens=0) == pytest.approx(of_prompt, abs=1e-5)


def test_n_choices_differ_and_a_seed_repeats_them(client: openai.OpenAI, model: Path) -> None:
    asked = {"model": str(model), "messages": MESSAGES, "max_tokens": 12, "n": 2, "seed": 11}
    first, again = (client.chat.completions.create(**asked) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert texts[0] != texts[1]
    assert texts == [choice.message.content for choice in again.choices]


def test_a_known_prefix_is_reported_as_cached(client: openai.OpenAI, model: Path) -> None:
    asked = {"model": str(model), "prompt": list(range(5, 105)), "max_tokens": 1}
    client.completions.create(**asked)
    usage = client.completions.create(**asked).usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 96


def test_vllm_parameters_act(client: openai.OpenAI, model: Path) -> None:
    asked = {"model": str(model), "prompt": PROMPT, "max_tokens": 8, "temperature": 0}
    tokens = client.completions.create(
        **asked, extra_body={"return_token_ids": True, "ignore_eos": True}
    ).choices[0]
    second = tokens.token_ids[1]
    stopped = client.completions.create(
        **asked, extra_body={"stop_token_ids": [second], "ignore_eos": True}
    ).choices[0]
    assert stopped.finish_reason == "stop"
    assert stopped.stop_reason == second
    other = client.completions.create(
        **asked, extra_body={"logit_bias": {str(second): -100}, "return_token_ids": True}
    ).choices[0]
    assert second not in other.token_ids


def test_64_streams_at_once_finish(url: str, model: Path) -> None:
    async def one(client: openai.AsyncOpenAI, number: int) -> str:
        stream = await client.completions.create(
            model=str(model),
            prompt=[5 + number, *range(5, 25)],
            max_tokens=16,
            temperature=0,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        return "".join([chunk.choices[0].text async for chunk in stream])

    async def all_at_once() -> list[str]:
        async with async_client(url) as client:
            return await asyncio.gather(*(one(client, number) for number in range(64)))

    async def alone(number: int) -> str:
        async with async_client(url) as client:
            return await one(client, number)

    texts = asyncio.run(all_at_once())
    assert len(texts) == 64
    assert all(texts)
    assert texts[9] == asyncio.run(alone(9))


def test_killing_32_of_64_clients_frees_their_pages(url: str, model: Path) -> None:
    before = metrics(url)
    assert before["vllm:num_requests_running"] == 0

    async def one(client: openai.AsyncOpenAI, number: int) -> int:
        """The number of chunks; every other client leaves after the third."""
        stream = await client.completions.create(
            model=str(model),
            prompt=[5 + number, *range(5, 25)],
            max_tokens=400 if number % 2 else 16,
            stream=True,
            extra_body={"ignore_eos": True, "return_token_ids": True},
        )
        count = 0
        async for _ in stream:
            count += 1
            if number % 2 and count == 3:
                await stream.close()
                break
        return count

    async def run() -> list[int]:
        async with async_client(url) as client:
            return await asyncio.gather(*(one(client, number) for number in range(64)))

    counts = asyncio.run(run())
    assert counts == [16, 3] * 32

    def is_as_before() -> bool:
        now = metrics(url)
        return all(
            now[name] == before[name]
            for name in ("vllm:num_requests_running", "vllm:kv_cache_usage_perc")
        )

    wait_until(is_as_before)
    made = metrics(url)["vllm:generation_tokens_total"] - before["vllm:generation_tokens_total"]
    assert made < 32 * 16 + 32 * 100  # those killed did not run on to their 400


BAD = [
    ({"prompt": "a" * 4000}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [[5], []]}, "prompt"),
    ({"prompt": [10**6]}, "prompt"),
    ({"prompt": [-1]}, "prompt"),
    ({"prompt": [10**30]}, "prompt"),
    ({"prompt": "a", "temperature": -1}, "temperature"),
    ({"prompt": "a", "top_p": 0}, "top_p"),
    ({"prompt": "a", "n": 129}, "n"),
    ({"prompt": "a", "surprise": 1}, "surprise"),
    ({"prompt": "a", "logit_bias": {"1000000": 1}}, "logit_bias"),
    ({"prompt": "a", "stop_token_ids": [-5]}, "stop_token_ids"),
]


def test_bad_input_is_a_clear_400_and_harms_nobody(url: str, model: Path) -> None:
    """Everything bad is sent while a good request runs, which must end as it would alone."""
    good = {
        "model": str(model),
        "prompt": PROMPT,
        "max_tokens": 200,
        "temperature": 0,
        "stream": True,
        "ignore_eos": True,
    }
    alone = httpx.post(f"{url}/v1/completions", json=good, timeout=60).text
    with httpx.stream("POST", f"{url}/v1/completions", json=good, timeout=60) as running:
        lines = running.iter_lines()
        beginning = [next(lines), next(lines)]
        _send_everything_bad(url)
        beside = "\n".join([*beginning, *lines])
    assert _texts(beside) == _texts(alone)
    assert httpx.get(f"{url}/health").status_code == 200


def _texts(events: str) -> list[str]:
    lines = [line.removeprefix("data: ") for line in events.splitlines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line)["choices"][0]["text"] for line in lines]


def _send_everything_bad(url: str) -> None:
    for body, param in BAD:
        answer = httpx.post(f"{url}/v1/completions", json=body)
        assert answer.status_code == 400, (body, answer.text)
        error = answer.json()["error"]
        assert error["param"] == param, error
        assert error["type"] == "invalid_request_error"
        assert error["message"].endswith(".")
        assert len(error["message"]) < 300
    for data in (b'{"prompt": "\xff"}', b"{", b"[]", b"", b'{"prompt": "\xed\xa0\x80"}'):
        answer = httpx.post(f"{url}/v1/completions", content=data)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"].startswith("The body ")


def test_a_prompt_longer_than_the_context_says_both_lengths(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=f"600 tokens.*{CONTEXT}"):
        client.completions.create(model=client.models.list().data[0].id, prompt=[5] * 600)


def test_more_new_tokens_than_the_context_holds_are_refused_by_name(client: openai.OpenAI) -> None:
    model = client.models.list().data[0].id
    with pytest.raises(openai.BadRequestError, match=f"to {CONTEXT - 10} or less") as caught:
        client.completions.create(model=model, prompt=[5] * 10, max_tokens=CONTEXT - 9)
    assert caught.value.param == "max_tokens"


def test_a_body_of_100_mb_is_refused_unread(url: str) -> None:
    block = b"x" * 2**20
    chunked = httpx.post(f"{url}/v1/completions", content=(block for _ in range(100)), timeout=60)
    assert chunked.status_code == 413
    declared = httpx.post(f"{url}/v1/completions", content=block * 100, timeout=60)
    assert declared.status_code == 413
    assert "10485760 bytes" in declared.json()["error"]["message"]


def test_a_port_in_use_is_one_sentence(model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, errors = failing(model, port)
    assert (code, out) == (1, "")
    assert errors.startswith(f"Cannot listen on 127.0.0.1 port {port} (Address already in use);")
    assert errors.count("\n") == 1


def test_stopping_lets_a_stream_finish(model: Path) -> None:
    with served(model) as (process, url):
        asked = {"prompt": PROMPT, "max_tokens": 150, "stream": True, "ignore_eos": True}
        with httpx.stream("POST", f"{url}/v1/completions", json=asked, timeout=60) as answer:
            lines = answer.iter_lines()
            next(lines)
            process.send_signal(signal.SIGINT)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert (
            json.loads(rest[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
        )
        process.wait(timeout=30)


def test_stopping_while_the_model_loads(model: Path) -> None:
    with TemporaryFile("w+") as log, start(model, log) as process:
        wait_until(lambda: bool(psutil.Process(process.pid).children()))
        process.terminate()
        assert process.wait(timeout=20) == 0


def test_an_engine_that_dies_is_reported(model: Path) -> None:
    with served(model) as (process, url):
        assert httpx.get(f"{url}/health").status_code == 200
        asked = {"prompt": PROMPT, "max_tokens": 400, "ignore_eos": True}
        with httpx.stream(
            "POST", f"{url}/v1/completions", json={**asked, "stream": True}, timeout=60
        ) as answer:
            lines = answer.iter_lines()
            next(lines)
            for child in psutil.Process(process.pid).children(recursive=True):
                if "spawn_main" in " ".join(child.cmdline()):
                    child.kill()
            rest = [line for line in lines if line]
        error = json.loads(rest[-2].removeprefix("data: "))["error"]
        assert error["code"] == "engine_unavailable"
        assert httpx.get(f"{url}/health").status_code == 503
        after = httpx.post(f"{url}/v1/completions", json=asked)
        assert after.status_code == 503
        assert "vllm:request_success_total" in httpx.get(f"{url}/metrics").text


def test_the_server_imports_neither_torch_nor_transformers(model: Path) -> None:
    code = (
        "import sys, vivace.serve.server; "
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
