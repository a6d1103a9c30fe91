"""The page in a real browser, in front of a real server."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serve.page.browser import (
    DESKTOP,
    IDLE,
    PHONE,
    SMALL_PHONE,
    Browser,
    absent,
    answer,
    choose,
    chromium,
    overflow,
    send,
    serving_mini,
    visit,
)
from tests.serve.scripted import wait_until

pytestmark = pytest.mark.skipif(absent() is not None, reason=f"no browser: {absent()}")

CODE = "def fibonacci(n):\n"
CONTRAST = (Path(__file__).parent / "contrast.mjs").read_text()
KEY = "a key of the tests"
ABORTED = re.compile(r'request_success_total\{[^}]*finished_reason="abort"[^}]*\} (\S+)')


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving_mini() as url:
        yield url


@pytest.fixture(scope="module")
def started() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(started: Browser, url: str) -> Iterator[Browser]:
    """The playground. Whatever a test does with it, nothing goes wrong in the console, and nobody
    but this server is asked for anything."""
    visit(started, url, DESKTOP)
    yield started
    assert started.complaints() == []
    assert {address[: len(url)] for address in started.requests()} == {url}


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_an_answer_comes_token_by_token(page: Browser, url: str, size: tuple[int, int]) -> None:
    visit(page, url, size)
    page.run(
        """window.lengths = new Set();
        const transcript = document.querySelector(".transcript");
        const saw = () => lengths.add(transcript.textContent.length);
        new MutationObserver(saw).observe(
            transcript, { subtree: true, childList: true, characterData: true });"""
    )
    choose(page, "completion")
    if size == PHONE:
        page.click(".opener")
    send(page, CODE, {"temperature": 0, "max_tokens": 40})
    text = answer(page)
    asked = {"prompt": CODE, "temperature": 0, "max_tokens": 40}
    whole = httpx.post(f"{url}/v1/completions", json=asked).json()
    assert text == whole["choices"][0]["text"]
    count = whole["usage"]["completion_tokens"]
    assert page.run("return lengths.size") > count / 2
    pace = page.text(".pace")
    assert re.fullmatch(rf"{count} tokens · \S+ per second · first after \S+ m?s · .+", pace), pace
    assert overflow(page) == 0


def test_a_conversation_goes_on(page: Browser) -> None:
    send(page, "What can you do?", {"temperature": 0, "system": "Be brief."})
    first = answer(page)
    send(page, "Thank you!")
    answer(page)
    turns = page.run("return [...document.querySelectorAll('.turn')].map((t) => t.textContent)")
    assert len(turns) == 4
    assert turns[:3] == ["What can you do?", first, "Thank you!"]
    page.click("#clear")
    assert page.text(".transcript") == ""


def test_stop_ends_the_request_on_the_server(page: Browser, url: str) -> None:
    def aborted() -> float:
        match = ABORTED.search(httpx.get(f"{url}/metrics").text)
        return float(match[1]) if match else 0.0

    before = aborted()
    choose(page, "completion")
    page.run(
        """const stop = document.querySelector("#stop");
        const pace = document.querySelector(".pace");
        const saw = () => parseInt(pace.textContent) >= 3 && stop.click();
        new MutationObserver(saw).observe(pace, { childList: true });"""
    )
    send(page, "import os\n", {"temperature": 0, "max_tokens": 1500})
    assert answer(page)
    pace = page.text(".pace")
    assert pace.endswith("stopped")
    assert 3 <= int(pace.split()[0]) < 1500
    wait_until(lambda: aborted() == before + 1, seconds=5)


def test_two_settings_are_compared_at_the_same_time(page: Browser) -> None:
    choose(page, "completion")
    page.click("#compare")
    page.run(
        """const [one, other] = document.querySelectorAll(".lane");
        one.elements.temperature.value = other.elements.temperature.value = 0;
        one.elements.max_tokens.value = 60;
        other.elements.max_tokens.value = 50;
        other.elements.stop.value = "never\\\\nsaid";"""
    )
    send(page, CODE)
    page.wait(IDLE)
    one, other = page.run(
        "return [...document.querySelectorAll('.lane .assistant')].map((a) => a.textContent)"
    )
    assert one.startswith(other)
    assert len(one) > len(other) > 20
    begun, ended = page.run(
        """const calls = performance.getEntriesByType("resource")
            .filter(({ name }) => name.endsWith("/v1/completions"));
        return [calls.map((c) => c.startTime), calls.map((c) => c.responseEnd)];"""
    )
    assert len(begun) == 2
    assert max(begun) < min(ended)


def test_tokens_say_how_likely_they_were(page: Browser, url: str) -> None:
    choose(page, "completion")
    page.click("[name=logprobs]")
    send(page, CODE, {"temperature": 0, "max_tokens": 12})
    asked = {"prompt": CODE, "temperature": 0, "max_tokens": 12, "logprobs": 5}
    choice = httpx.post(f"{url}/v1/completions", json=asked).json()["choices"][0]
    assert answer(page) == choice["text"]
    from selenium.webdriver import ActionChains, Keys

    second = page.find(".token:nth-of-type(2)")
    ActionChains(page.driver).move_to_element(second).perform()
    explains(page, choice["logprobs"], 1)
    page.run("document.querySelector('.transcript').focus()")
    page.press(Keys.TAB)
    explains(page, choice["logprobs"], 0)
    page.press(Keys.ARROW_RIGHT)
    page.press(Keys.ARROW_RIGHT)
    explains(page, choice["logprobs"], 2)
    assert page.run("return document.activeElement === document.querySelectorAll('.token')[2]")
    page.press(Keys.ESCAPE)
    assert page.run("return document.querySelector('#tip').hidden")


def explains(page: Browser, logprobs: Mapping[str, Any], place: int) -> None:
    """The tip shows the token at that place of the answer, and what else was likely."""
    assert not page.run("return document.querySelector('#tip').hidden")
    number = f"{logprobs['token_logprobs'][place]:.2f}".replace("-", "−")
    assert page.text("#tip .logprob") == f"log-probability {number}"
    rows = page.run("return [...document.querySelectorAll('#tip code')].map((c) => c.textContent)")
    assert len(rows) == len(logprobs["top_logprobs"][place]) >= 5
    drawn = page.text("#tip .drawn code").replace("␣", " ").replace("⏎", "\n")
    assert drawn == logprobs["tokens"][place]


@contextmanager
def load(url: str, streams: int) -> Iterator[None]:
    """So many streams at once, until it is left."""
    over = threading.Event()
    asked = {"prompt": "import", "max_tokens": 400, "stream": True, "ignore_eos": True}

    def stream() -> None:
        while not over.is_set():
            with httpx.stream("POST", f"{url}/v1/completions", json=asked) as events:
                for _ in events.iter_lines():
                    if over.is_set():
                        break

    threads = [threading.Thread(target=stream) for _ in range(streams)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_the_live_view_moves_under_load(page: Browser, url: str) -> None:
    tile = "Number(document.querySelector('[data-name=%s]').textContent)"
    page.click("nav [href='#engine']")
    page.wait(f"{tile % 'running'} === 0")
    with load(url, 3):
        page.wait(f"{tile % 'running'} === 3 && {tile % 'output'} > 0")
        lines = "[...document.querySelectorAll('path.line')].map((p) => p.getAttribute('d')).join()"
        before = page.run(f"return {lines}")
        page.wait(f"{lines} !== arguments[0] && {tile % 'output'} > 0", before)
        for title in ("Time to first token", "Between tokens"):
            said = page.run(
                "return document.querySelector(`[aria-label='${arguments[0]} over time']`)"
                ".getAttribute('aria-valuetext')",
                title,
            )
            assert re.fullmatch(r"now: median \S+ m?s, p99 \S+ m?s", said), said
    page.wait(f"{tile % 'running'} === 0")
    look_back(page)
    page.click("nav [href='#playground']")
    asked = "performance.getEntriesByName(new URL('metrics', document.baseURI).href).length"
    count = page.run(f"return {asked}")
    page.run("setTimeout(() => { window.later = true; }, 1500)")
    page.wait("window.later")
    assert page.run(f"return {asked}") == count


def look_back(page: Browser) -> None:
    """A chart is read with the keyboard."""
    from selenium.webdriver import Keys

    page.run("document.querySelector('.plot').focus()")
    page.press(Keys.ARROW_LEFT)
    page.press(Keys.ARROW_LEFT)
    said = page.run("return document.activeElement.getAttribute('aria-valuetext')")
    assert re.match(r"\d s ago: generated \S+, prompts \S+", said), said
    assert page.run("return document.querySelectorAll('.plot .cursor').length") == 1


def test_what_the_server_refuses_is_said(started: Browser, url: str) -> None:
    visit(started, url, DESKTOP)
    send(started, "hello", {"temperature": -1})
    started.wait(IDLE)
    assert "temperature must be" in started.text("[role=alert].error:not(.reason)")
    assert started.run("return document.activeElement.id") == "prompt"
    assert started.find("[name=temperature]").get_attribute("aria-invalid") == "true"
    assert started.find("#prompt").get_property("value") == "hello"
    (complaint,) = started.complaints()
    assert "400" in complaint
    started.type("[name=temperature]", "0")
    started.click("#send")
    assert answer(started)
    assert started.complaints() == []


def test_a_number_that_is_none_is_not_sent(page: Browser) -> None:
    send(page, "hello", {"max_tokens": "1.5"})
    assert page.run("return document.querySelector('.transcript').childElementCount") == 0
    assert page.run("return document.activeElement.name") == "max_tokens"


def test_a_key_is_asked_for_and_kept_in_the_tab(started: Browser) -> None:
    dialog = "document.querySelector('dialog').open"
    with serving_mini("--api-key", KEY) as url:
        started.show(PHONE)
        started.open(url)
        started.wait(dialog)
        assert "key" in started.text(".reason")
        for key in ("wrong", KEY):
            started.wait(f"{dialog} && document.activeElement.type === 'password'")
            started.type("dialog input", key)
            started.click("dialog .main")
        started.wait("document.querySelector('select').options.length")
        send(started, "hello")
        assert answer(started)
        kept = started.run("return [Object.values(sessionStorage), localStorage.length]")
        assert kept == [[KEY], 0]
        assert all("401" in complaint for complaint in started.complaints())


def test_the_keyboard_is_enough(page: Browser) -> None:
    from selenium.webdriver import Keys

    reached: dict[str, str] = {}
    page.run("document.activeElement.blur()")
    for _ in range(40):
        page.press(Keys.TAB)
        name, outline = page.run(
            """const at = document.activeElement;
            const drawn = at.matches(".kinds input") ? at.nextElementSibling : at;
            const around = at.id === "prompt" ? at.parentElement : drawn;
            const name = at.id || at.name || at.hash || at.className;
            return [name, getComputedStyle(around).outlineStyle];"""
        )
        if not name or name == next(iter(reached), None):
            break  # out of the page, or around
        reached[name] = outline
    wanted = {"key-button", "#engine", "kind", "compare", "clear", "model", "opener", "prompt"}
    wanted |= {"temperature", "seed", "stop", "logprobs", "transcript", "send"}
    assert wanted <= set(reached)
    assert set(reached.values()) == {"solid"}
    page.run("document.querySelector('#prompt').focus()")
    page.press("hello", Keys.ENTER)
    assert answer(page)
    assert page.run("return document.activeElement.id") == "prompt"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, SMALL_PHONE], ids=["desktop", "phone"])
def test_everything_can_be_read_and_has_a_name(
    page: Browser, size: tuple[int, int], scheme: str
) -> None:
    page.show(size, scheme)
    page.run("document.querySelector('[name=logprobs]').checked = true")
    page.click("#compare")
    send(page, "Write a Python function `mean(values)`. " + "a" * 200)
    answer(page)
    page.run("document.querySelectorAll('.opener').forEach((one) => one.click())")
    page.run("document.querySelector('.token').focus()")
    assert legible(page) > 40
    page.click("nav [href='#engine']")
    page.wait("document.querySelectorAll('path.line').length > 2")
    assert legible(page) > 20
    page.click("#key-button")
    assert legible(page) > 20


def legible(page: Browser) -> int:
    """How many texts there are; each has contrast, each control a name, and all fit in width."""
    found = page.run(CONTRAST)
    assert found["poor"] == []
    assert nameless(page) == []
    assert overflow(page) == 0
    return int(found["texts"])


def nameless(page: Browser) -> list[str]:
    """Roles of what a screen reader would find without a name."""
    named = {"button", "checkbox", "combobox", "dialog", "group", "link", "log", "navigation"}
    named |= {"radio", "region", "slider", "spinbutton", "textbox"}
    nodes = page.command("Accessibility.getFullAXTree")["nodes"]
    shown = [node for node in nodes if not node["ignored"] and node["role"]["value"] in named]
    assert len(shown) > 3
    return [node["role"]["value"] for node in shown if not node["name"]["value"].strip()]
