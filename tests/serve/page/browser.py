"""A headless Chromium and a server of the bundled model, for tests of the page and its pictures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from tests.serve.process import url_of

ROOT = Path(__file__).parents[3]
DESKTOP = (1280, 800)
PHONE = (390, 844)
SMALL_PHONE = (360, 640)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WAIT_SECONDS = 20.0
SHOWN = "[...document.querySelectorAll('.transcript .assistant')].at(-1).textContent"
IDLE = "document.querySelector('#stop').hidden"


def absent() -> str | None:
    """What is missing to drive a browser; None where it is all there."""
    if find_spec("selenium") is None:
        return "selenium is not installed"
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(missing)} cannot be found" if missing else None


@contextmanager
def serving_mini(*flags: str) -> Iterator[str]:
    """The URL of `vivace serve` with these flags."""
    command = [sys.executable, "-m", "vivace", "serve", "--port", "0", *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with (
        TemporaryFile() as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, env=environment, text=True
        ) as process,
    ):
        try:
            yield url_of(process)
        finally:
            process.terminate()


@contextmanager
def chromium() -> Iterator[Browser]:
    """With a profile of its own, which is gone afterwards."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
        driver.set_script_timeout(WAIT_SECONDS)
        try:
            yield Browser(driver)
        finally:
            driver.quit()


class Browser:
    """A tab, in the few words that tests of one page need. Elements are named by CSS selectors."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def show(self, size: tuple[int, int], scheme: str = "light", scale: int = 1) -> None:
        """Take on the size of a screen; narrow ones are touched, not clicked."""
        width, height = size
        phone = width < 600
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=phone,
        )
        self.command("Emulation.setTouchEmulationEnabled", enabled=phone)
        colors = [{"name": "prefers-color-scheme", "value": scheme}]
        self.command("Emulation.setEmulatedMedia", features=colors)

    def open(self, url: str) -> None:
        """As a visitor who was never here; what was told and asked before is forgotten."""
        self.driver.get("about:blank")
        self.complaints()
        self.requests()
        self.driver.get(url)
        self.wait("document.querySelector('nav [aria-current]')")

    def run(self, script: str, *arguments: Any) -> Any:
        """The value of the body of a function."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: str, *arguments: Any) -> Any:
        """The value of an expression as soon as it is true."""
        script = """
            const done = arguments[arguments.length - 1];
            const look = () => {
                const value = (function () { return %s; }).apply(null, arguments);
                value ? done(value) : setTimeout(look, 10);
            };
            look();"""
        return self.driver.execute_async_script(script % condition, *arguments)

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def type(self, selector: str, text: str) -> None:
        """In place of what is there."""
        field = self.find(selector)
        field.clear()
        field.send_keys(text)

    def press(self, *keys: str) -> None:
        """Keys for whatever has the focus."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def command(self, name: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, parameters)

    def complaints(self) -> list[str]:
        """What the console was told since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """The addresses that were asked for since the last call."""
        entries = self.driver.get_log("performance")
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        sent = [one for one in messages if one["method"] == "Network.requestWillBeSent"]
        return [one["params"]["request"]["url"] for one in sent]


def visit(browser: Browser, url: str, size: tuple[int, int], scheme: str = "light") -> None:
    browser.show(size, scheme)
    browser.open(url)
    browser.wait("document.querySelector('select').options.length")


def choose(page: Browser, kind: str) -> None:
    page.click(f"[value={kind}] + span")


def send(page: Browser, text: str, settings: Mapping[str, Any] | None = None) -> None:
    """Ask, with these settings."""
    for name, value in (settings or {}).items():
        page.type(f"[name={name}]", str(value))
    page.type("#prompt", text)
    page.click("#send")


def answer(page: Browser) -> str:
    """What was answered, once it is whole."""
    page.wait(IDLE)
    return str(page.run(f"return {SHOWN}"))


def overflow(page: Browser) -> int:
    """Pixels that the page is too wide."""
    return int(page.run("return document.documentElement.scrollWidth - innerWidth"))
