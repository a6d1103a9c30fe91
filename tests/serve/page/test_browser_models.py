"""The page in front of models that reason and call tools, and of several models at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serve.calling import TOOLS, Says, serving_calls
from tests.serve.checkpoint import write_tiny_chat_model
from tests.serve.page.browser import (
    DESKTOP,
    PHONE,
    Browser,
    absent,
    answer,
    chromium,
    overflow,
    send,
    serving_mini,
    visit,
)

pytestmark = pytest.mark.skipif(absent() is not None, reason=f"no browser: {absent()}")

CALL = '<tool_call>{"name": "%s", "arguments": {"%s": %s}}</tool_call>'
CALLS = CALL % ("get", "city", '"Rome"') + "\n" + CALL % ("put", "on", "true")


@pytest.fixture(scope="module")
def started() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_reasoning_is_folded_apart_from_the_answer(started: Browser, size: tuple[int, int]) -> None:
    with serving_calls(Says("<think>\nOne and one?\n</think>\n\nTwo.")) as url:
        visit(started, url, size)
        send(started, "1 + 1?")
        answer(started)
        assert started.text(".assistant .said") == "Two."
        assert started.text(".thought div") == "One and one?"
        assert not started.run("return document.querySelector('.thought').open")
        started.click(".thought summary")
        assert started.find(".thought div").is_displayed()
        assert overflow(started) == 0
        assert started.complaints() == []


def test_calls_are_shown_and_their_outputs_sent_back(started: Browser) -> None:
    engine = Says(f"Let me see.\n{CALLS}", "It rains.")
    with serving_calls(engine) as url:
        visit(started, url, DESKTOP)
        send(started, "hi", {"tools": "[{"})
        assert engine.seen == []
        assert started.run("return document.activeElement.name") == "tools"
        send(started, "hi", {"tools": json.dumps(TOOLS)})
        answer(started)
        assert started.text(".pace").endswith("calls")
        calls = "return [...document.querySelectorAll('.call code')].map((c) => c.textContent)"
        assert started.run(calls) == ["get", '{"city": "Rome"}', "put", '{"on": true}']
        assert started.text(".assistant .said") == "Let me see."
        for field, output in zip(
            started.driver.find_elements("css selector", ".outputs textarea"),
            ("rain", "on"),
            strict=True,
        ):
            field.send_keys(output)
        started.click(".outputs button")
        started.wait("document.querySelectorAll('.turn.assistant').length === 2")
        assert answer(started) == "It rains."
        given = "return [...document.querySelectorAll('.output')].map((o) => o.textContent)"
        assert started.run(given) == ["rain", "on"]
        prompt = bytes(engine.seen[1].prompt_token_ids).decode()
        assert "tool: rain\ntool: on\n" in prompt
        assert not started.driver.find_elements("css selector", ".outputs")
        send(started, "Thanks")
        answer(started)
        later = bytes(engine.seen[2].prompt_token_ids).decode()
        assert prompt.removesuffix("assistant: ") in later
        assert "It rains.\nuser: Thanks" in later
        assert started.complaints() == []


def test_who_does_not_tell_the_outputs_goes_on_without_the_calls(started: Browser) -> None:
    engine = Says(CALLS, "Well.")
    with serving_calls(engine) as url:
        visit(started, url, DESKTOP)
        send(started, "hi", {"tools": json.dumps(TOOLS)})
        answer(started)
        send(started, "Never mind")
        assert answer(started) == "Well."
    prompt = bytes(engine.seen[1].prompt_token_ids).decode()
    assert prompt == "user: hi\nassistant: \nuser: Never mind\nassistant: "


def test_the_live_view_can_watch_one_model(started: Browser, tmp_path: Path) -> None:
    tiny = write_tiny_chat_model(tmp_path)
    watched = "document.querySelector('.watched')"
    output = "document.querySelector('[data-name=kv]').textContent"
    with serving_mini("--served-model-name", "main", "--models", f"tiny={tiny}") as url:
        visit(started, url, DESKTOP)
        started.click("nav [href='#engine']")
        started.wait(f"{output} !== '–'")
        assert started.run(f"return {watched}.hidden")
        asked = {"model": "tiny", "prompt": "a", "max_tokens": 4}
        assert httpx.post(f"{url}/v1/completions", json=asked, timeout=60).is_success
        started.wait(f"!{watched}.hidden")
        names = "[...document.querySelectorAll('.watched option')].map((o) => o.textContent)"
        assert started.run(f"return {names}") == ["all", "main", "tiny"]
        started.run(
            """const select = document.querySelector(".watched select");
            select.value = "main";
            select.dispatchEvent(new Event("change"));"""
        )
        asked |= {"max_tokens": 100, "ignore_eos": True}
        assert httpx.post(f"{url}/v1/completions", json=asked, timeout=60).is_success
        started.run("setTimeout(() => { window.later = true; }, 2500)")
        started.wait("window.later")
        said = started.run(
            "return document.querySelector(`[aria-label='Throughput over time']`)"
            ".getAttribute('aria-valuetext')"
        )
        assert said.startswith("now: generated 0,"), said
        assert started.complaints() == []
