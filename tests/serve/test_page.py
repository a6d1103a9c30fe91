"""The page's files, and how they are sent."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from tests.serve.scripted import ScriptedEngine, scripted_app, serving
from vivace.serve.endpoints.page import FOLDER, MEDIA_TYPES, read_page
from vivace.serve.options import ServeOptions


def test_the_page_is_sent_with_all_that_it_names(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    named = re.findall(r'(?:src|href)="(page/[^"]+)"', page.text)
    assert len(named) >= 5
    for path in named:
        assert client.get(f"/{path}").status_code == 200
    assert client.get("/page/main.mjs").headers["content-type"] == "text/javascript; charset=utf-8"


def test_nothing_but_this_servers_own_files_may_run(client: httpx.Client) -> None:
    for path in ("/", "/page/main.mjs"):
        headers = client.get(path).headers
        policy = dict(
            part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_a_file_is_sent_once(client: httpx.Client) -> None:
    first = client.get("/page/main.mjs")
    again = client.get("/page/main.mjs", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = client.get("/page/main.mjs", headers={"if-none-match": '"other"'})
    assert other.content == first.content
    assert client.head("/").headers["content-length"] == str(len(client.get("/").content))


def test_paths_lead_to_the_page_alone(client: httpx.Client) -> None:
    for path in ("/page", "/page/", "/page/index.html", "/page/../app.py", "/page/%2e%2e/app.py"):
        assert client.get(path).status_code == 404


def test_the_page_needs_no_key_and_what_it_calls_does(engine: ScriptedEngine) -> None:
    app = scripted_app(engine, ServeOptions(api_key="secret"))
    with serving(app) as url, httpx.Client(base_url=url) as client:
        assert client.get("/").status_code == 200
        assert client.get("/page/main.mjs").status_code == 200
        assert client.get("/metrics").status_code == 200
        assert client.get("/v1/models").status_code == 401
        assert client.get("/page/nothing.mjs").status_code == 401


def test_there_is_none_where_nobody_wants_it(engine: ScriptedEngine) -> None:
    app = scripted_app(engine, ServeOptions(page=False))
    with serving(app) as url, httpx.Client(base_url=url) as client:
        assert client.get("/").status_code == 404
        assert client.get("/page/main.mjs").status_code == 404
        assert client.get("/v1/models").status_code == 200


@pytest.mark.tiny
def test_every_file_is_served() -> None:
    assert {path.suffix for path in FOLDER.iterdir()} == set(MEDIA_TYPES)
    assert len(read_page()) == len(list(FOLDER.iterdir()))


@pytest.mark.tiny
@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_files_are_short_and_name_nothing_from_elsewhere(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 400
    assert max(map(len, lines)) <= 100
    text = path.read_text().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|@import|innerHTML|\son\w+=|\sstyle=", text)
