"""Web pages of other origins may call the server only where it was told so."""

from __future__ import annotations

import httpx

from tests.serve.scripted import ScriptedEngine, scripted_app, serving
from vivace.serve.options import ServeOptions

PAGE = "https://page.example"
PREFLIGHT = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization, content-type",
}


def allowed(answer: httpx.Response) -> str | None:
    return answer.headers.get("access-control-allow-origin")


def test_no_origin_is_allowed_by_itself(client: httpx.Client) -> None:
    asked = client.options("/v1/completions", headers=PREFLIGHT)
    answered = client.get("/version", headers={"origin": PAGE})
    assert [allowed(asked), allowed(answered)] == [None, None]


def test_origins_that_are_named_are_allowed_and_need_the_key(engine: ScriptedEngine) -> None:
    options = ServeOptions(allowed_origins=f"https://other.example, {PAGE}", api_key="k")
    with serving(scripted_app(engine, options)) as url, httpx.Client(base_url=url) as client:
        asked = client.options("/v1/completions", headers=PREFLIGHT)
        assert (asked.status_code, allowed(asked)) == (200, PAGE)
        stranger = client.options(
            "/v1/completions", headers={**PREFLIGHT, "origin": "https://stranger.example"}
        )
        assert allowed(stranger) is None
        refused = client.post("/v1/completions", json={"prompt": "a"}, headers={"origin": PAGE})
        assert (refused.status_code, allowed(refused)) == (401, PAGE)
