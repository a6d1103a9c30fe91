"""Pictures of the page, as Chromium shows it in front of a server of the bundled model.

PYTHONPATH=. python tools/page_screenshots.py docs
"""

from __future__ import annotations

import argparse
import base64
import io
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from PIL import Image

from tests.serve.page.browser import DESKTOP, PHONE, Browser, absent, chromium, serving_mini

MAX_BYTES = 150_000
COLORS = 128
SCALE = 2  # pixels of a picture for one of the page
LOADED_SECONDS = 60
CODE = """class Point:
    def __init__(self, x, y):
        self.x = x
        self.y = y

    def __eq__(self, other):
"""
IDLE = "document.querySelector('#stop').hidden"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write them")
    folder = parser.parse_args().folder
    if (why := absent()) is not None:
        sys.exit(f"Install chromium, chromium-driver and selenium first: {why}.")
    with serving_mini() as url, chromium() as browser:
        for name, (size, scheme, pose) in PICTURES.items():
            browser.show(size, scheme, SCALE)
            browser.open(url)
            browser.wait("document.querySelector('select').options.length")
            pose(browser, url)
            save(browser, folder / f"{name}.png")


def probabilities(browser: Browser, url: str) -> None:
    browser.click("[value=completion] + span")
    browser.click("[name=logprobs]")
    ask(browser, CODE, temperature=0, max_tokens=64)
    browser.run(
        """const tokens = [...document.querySelectorAll(".token")];
        tokens.find((token) => token.dataset.surprise > 1).focus({ preventScroll: true });"""
    )


def phone(browser: Browser, url: str) -> None:
    for question in ("What can you do?", "Write a Python function `add(a, b)`.", "Thank you!"):
        ask(browser, question, temperature=0, max_tokens=60)


def compare(browser: Browser, url: str) -> None:
    browser.click("[value=completion] + span")
    browser.click("#compare")
    browser.run(
        """const [one, other] = document.querySelectorAll(".lane");
        one.elements.temperature.value = 0;
        other.elements.temperature.value = 0.7;
        other.elements.seed.value = 7;
        one.elements.max_tokens.value = other.elements.max_tokens.value = 64;
        for (const lane of [one, other]) lane.dispatchEvent(new Event("input"));"""
    )
    ask(browser, CODE)


def engine(browser: Browser, url: str) -> None:
    browser.click("nav [href='#engine']")
    with load(url):
        time.sleep(LOADED_SECONDS)


def ask(browser: Browser, text: str, **settings: float) -> None:
    for name, value in settings.items():
        browser.run(
            """const lane = document.querySelector(".lane");
            lane.elements[arguments[0]].value = arguments[1];
            lane.dispatchEvent(new Event("input"));""",
            name,
            value,
        )
    browser.type("#prompt", text)
    browser.click("#send")
    browser.wait(IDLE)


@contextmanager
def load(url: str) -> Iterator[None]:
    """Bursts of streams of many lengths, until it is left."""
    over = threading.Event()

    def streams(number: int) -> None:
        while not over.is_set():
            prompt = CODE * (1 + number) + f"# {time.monotonic()}\n"
            asked = {"prompt": prompt, "max_tokens": 100 * number, "ignore_eos": True}
            httpx.post(f"{url}/v1/completions", json=asked, timeout=60)
            over.wait(number)

    threads = [threading.Thread(target=streams, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


Pose = Callable[[Browser, str], None]
PICTURES: dict[str, tuple[tuple[int, int], str, Pose]] = {
    "page-desktop": (DESKTOP, "light", probabilities),
    "page-compare": (DESKTOP, "light", compare),
    "page-phone": (PHONE, "dark", phone),
    "page-engine": (DESKTOP, "light", engine),
}


def save(browser: Browser, path: Path) -> None:
    painted = "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
    browser.driver.execute_async_script(painted)
    shot = browser.command("Page.captureScreenshot", format="png")["data"]
    image = Image.open(io.BytesIO(base64.b64decode(shot))).convert("RGB")
    image.quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path}: {size / 1000:.0f} kB")
    if size > MAX_BYTES:
        sys.exit(f"{path} is larger than {MAX_BYTES / 1000:.0f} kB.")


if __name__ == "__main__":
    main()
