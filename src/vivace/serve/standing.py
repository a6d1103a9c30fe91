"""Where a call stands among others: its priority, its tenant, its deadline, and what it keeps."""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request

from vivace.core.errors import RequestError, UsageError
from vivace.core.request import Request as EngineRequest
from vivace.core.sight import Sight
from vivace.serve.keys import Caller
from vivace.serve.schemas import StandingBody


def tenant_of(http: Request, body: StandingBody) -> str:
    """Who shares the engine with others: `user` (OpenAI's newer `safety_identifier` says the
    same), or else the name of the API key, or else nobody in particular."""
    named = body.user or body.safety_identifier
    if named:
        return named
    caller: Caller = http.state.caller
    return caller.name


def sight_of(kv_eviction: str | None) -> Sight | None:
    """What a call asks to keep of a long context; None leaves it to the server.

    Raises:
        RequestError: it is none of the known forms.
    """
    try:
        return None if kv_eviction is None else Sight.parse(kv_eviction)
    except UsageError as error:
        raise RequestError(str(error), "kv_eviction") from None


def with_standing(
    request: EngineRequest, body: StandingBody, tenant: str, adapter: str | None
) -> EngineRequest:
    """The request with its adapter, and what the body says of its turn. A `timeout` in seconds from
    its arrival ends it with the finish reason "deadline", unless `drop_if_late` is false.

    Raises:
        RequestError: drop_if_late comes without timeout.
    """
    timeout = body.timeout
    if timeout is None and body.drop_if_late is not None:
        raise RequestError("drop_if_late needs timeout.", "drop_if_late")
    return replace(
        request,
        priority=body.priority or 0,
        cache_salt=body.cache_salt or "",
        tenant=tenant,
        adapter=adapter,
        deadline=None if timeout is None else request.arrival + timeout,
        drop_if_late=timeout is not None and body.drop_if_late is not False,
    )
