"""A client of any OpenAI-compatible server that notes when each token came."""

from __future__ import annotations

import json
from time import perf_counter
from typing import Any

import httpx

from vivace.bench.events import AnswerClock, AnswerError, EventReader
from vivace.bench.outcome import Outcome
from vivace.bench.plans import TargetPlan
from vivace.bench.prompts import Prompt
from vivace.bench.transport import LeanTransport
from vivace.core.errors import UsageError, VivaceError

CHAT = "/v1/chat/completions"
SHOWN_CHARACTERS = 300


class OpenAIClient:
    """One server and one model. Use it as an async context manager."""

    def __init__(self, plan: TargetPlan) -> None:
        """Raises UsageError: the plan's address, key or extra fields cannot be sent."""
        self._plan = plan
        self._extra = _json_object(plan.extra_body)
        self._http = httpx.AsyncClient(
            base_url=_server(plan.base_url),
            headers=_headers(plan.api_key),
            transport=LeanTransport(plan.timeout),
            trust_env=False,  # a proxy would be measured with the server
        )
        self._usage: dict[str, Any] = {"stream_options": {"include_usage": True}}

    async def __aenter__(self) -> OpenAIClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def first_model(self) -> str:
        """The first model that the server lists.

        Raises:
            VivaceError: the server cannot be reached, or lists none.
        """
        try:
            response = await self._http.get("/v1/models")
            response.raise_for_status()
            return str(response.json()["data"][0]["id"])
        except httpx.HTTPError as error:
            raise VivaceError(
                f"{self._plan.base_url} does not list its models ({_reason(error)}): start the "
                "server, or name another with --base-url, or the model with --model."
            ) from error
        except (ValueError, LookupError, TypeError) as error:
            raise VivaceError(
                f"{self._plan.base_url} lists no models: name one with --model."
            ) from error

    def body(self, prompt: Prompt, model: str) -> bytes:
        """A request's body; made before the clock runs."""
        is_chat = self._plan.endpoint == CHAT
        asked: dict[str, Any] = (
            {"messages": [{"role": "user", "content": prompt.content}]}
            if is_chat
            else {"prompt": prompt.content}
        )
        fields = {
            "model": model,
            **asked,
            "max_tokens": prompt.output_len,
            "temperature": 0.0,
            "stream": True,
            **self._usage,
            **({"ignore_eos": True} if self._plan.ignore_eos else {}),
            **self._extra,
        }
        return json.dumps(fields, separators=(",", ":")).encode()

    async def warm_up(self, prompt: Prompt, model: str) -> None:
        """Send one prompt, and learn whether the server can be asked to count tokens.

        Raises:
            VivaceError: it failed.
        """
        outcome = await self.send(self.body(prompt, model), prompt.input_len)
        if outcome.error is not None and "stream_options" in outcome.error:
            self._usage = {}
            outcome = await self.send(self.body(prompt, model), prompt.input_len)
        if outcome.error is not None:
            raise VivaceError(f"The request before the measurement failed: {outcome.error}")

    async def send(
        self, body: bytes, prompt_tokens: int | None, started: float | None = None
    ) -> Outcome:
        """Send one request and follow its answer to the end; never raises for what a server does.

        Args:
            body: as `body` made it.
            prompt_tokens: as they were sent, where that is known.
            started: when the run began (`perf_counter`); None is now.
        """
        sent = perf_counter()
        started = sent if started is None else started
        try:
            answer = AnswerClock(sent)
            await self._follow(body, answer)
            return answer.outcome(started, prompt_tokens)
        except (httpx.HTTPError, AnswerError) as error:
            return Outcome(sent - started, error=_reason(error))

    async def _follow(self, body: bytes, answer: AnswerClock) -> None:
        reader = EventReader()
        async with self._http.stream("POST", self._plan.endpoint, content=body) as response:
            if response.status_code != 200:
                text = (await response.aread()).decode(errors="replace")
                raise AnswerError(f"HTTP {response.status_code}: {text[:SHOWN_CHARACTERS]}")
            async for data in response.aiter_raw():
                now = perf_counter()
                for event in reader.feed(data):
                    answer.take(event, now)
            for event in reader.end():
                answer.take(event, perf_counter())


def _server(base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url.rstrip("/"))
    except httpx.InvalidURL:
        url = httpx.URL()
    port_exists = url.port is None or 0 < url.port < 2**16
    if url.scheme not in ("http", "https") or not url.host or not port_exists:
        raise UsageError(f"{base_url!r} is no server's address: give http://HOST:PORT.")
    return url


def _headers(api_key: str | None) -> dict[str, str]:
    headers = {"content-type": "application/json", "accept-encoding": "identity"}
    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        raise UsageError("The API key must be one line of ASCII: give it without a line's end.")
    return headers if api_key is None else {**headers, "authorization": f"Bearer {api_key}"}


def _json_object(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UsageError(f"extra_body must be a JSON object, got {text!r}.")
    return value


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
