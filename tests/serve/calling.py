"""Models that call tools: a tiny one with a template that shows them, and a scripted one."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

import openai

from tests.serve.scripted import ByteTokenizer, RoleTemplate, ScriptedEngine, serving
from vivace.core.request import Delta, Request
from vivace.serve.app import create_app
from vivace.serve.options import ServeOptions

TEMPLATE = (
    "{% if tools %}<|im_start|>system\n"
    "{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<tool_call></tool_call></s>\n"
    "{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% for call in message.tool_calls or [] %}<tool_call>{{ call.function.arguments | tojson }}"
    "</tool_call>{% endfor %}</s>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MESSAGES = [{"role": "user", "content": "hi"}]


def tool(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [tool("get", city={"enum": ["Rome", "Oslo"]}), tool("put", on={"type": "boolean"})]


def check_call(name: str, arguments: str) -> None:
    given = json.loads(arguments)
    if name == "get":
        assert given in ({"city": "Rome"}, {"city": "Oslo"})
    else:
        assert (name, given) in (("put", {"on": True}), ("put", {"on": False}))


class Says(ScriptedEngine):
    """Says texts in turn, a few letters at a time; the last one again and again."""

    def __init__(self, *texts: str) -> None:
        super().__init__()
        self._texts = texts

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        text = self._texts[min(len(self.seen), len(self._texts) - 1)]
        self.seen.append(request)
        for first in range(0, len(text), 3):
            yield Delta(request.request_id, (1,), text[first : first + 3])
        yield Delta(request.request_id, (2,), finish_reason="stop")


class Template(RoleTemplate):
    source = "tools tool_calls <think></think> <tool_call>"


@contextmanager
def serving_calls(engine: ScriptedEngine, **options: Any) -> Iterator[str]:
    """The URL of a model that reasons, and calls as Hermes does."""
    app = create_app(engine, ByteTokenizer(), Template(), ServeOptions(**options))
    with serving(app) as url:
        yield url


@contextmanager
def saying(text: str, **options: Any) -> Iterator[openai.OpenAI]:
    with (
        serving_calls(Says(text), **options) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client
