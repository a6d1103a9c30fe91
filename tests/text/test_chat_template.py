"""Chat templates: Hugging Face's semantics, and errors that are the request's."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from trained import byte_level, with_bos

from vivace.core.errors import CheckpointError, RequestError
from vivace.text.chat import ChatTemplate, load_chat_template
from vivace.text.tokenizer import Tokenizer

CHATML = """{% for message in messages %}
    {% if message.role == 'ignored' %}
        {% continue %}
    {% endif %}
    {{- '<|im_start|>' + message['role'] + '\n' + message['content'] + eos_token -}}
{% endfor %}
{% if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' -}}
{% endif %}
"""
GENERATION = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% generation %}\n{{ m.content }}\n{% endgeneration %}{% else %}{{ m.content }}{% endif %}"
    "{% endfor %}"
)
STRICT = "{% if messages[0].role != 'user' %}{{ raise_exception('User first!') }}{% endif %}ok"
TOOLS = "{% if tools is not none %}{{ tools | tojson }}{% endif %}{{ messages | tojson(indent=2) }}"
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
MESSAGES = [
    {"role": "system", "content": "Be <brief> & kind."},
    {"role": "user", "content": "Héllo 👋"},
    {"role": "assistant", "content": "Hi."},
]

tiny = pytest.mark.tiny


@tiny
def test_renders_chatml() -> None:
    template = ChatTemplate(CHATML, TOKENS)
    messages = [{"role": "ignored", "content": "no"}, {"role": "user", "content": "Hi"}]
    expected = "<|im_start|>user\nHi</s>"
    assert template.render(messages, add_generation_prompt=False) == expected
    assert template.render(messages) == expected + "<|im_start|>assistant\n"


@tiny
def test_rendered_text_has_one_bos_when_encoded() -> None:
    tokenizer = Tokenizer(with_bos(byte_level()), TOKENS)
    prompt = ChatTemplate("{{ bos_token }}{{ messages[0].content }}", TOKENS).render(MESSAGES)
    token_ids = tokenizer.encode(prompt, add_special_tokens=False)
    assert token_ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.encode(prompt) == token_ids


@tiny
def test_text_parts_become_one_string() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    template = ChatTemplate("{{ messages[0].content }}")
    assert template.render([{"role": "user", "content": parts}]) == "one\ntwo"


@tiny
@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
        [{"role": "user", "content": [{"type": "text"}]}],
        [{"role": "user", "content": 5}],
        [{"content": "no role"}],
        ["text"],
    ],
)
def test_what_is_no_text_is_refused(messages: list[Any]) -> None:
    with pytest.raises(RequestError) as caught:
        ChatTemplate("{{ messages }}").render(messages)
    assert caught.value.param == "messages"


@tiny
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (STRICT, "User first!"),
        ("{{ messages[9].content.upper() }}", "no element 9"),
        ("{% if %}", "refused"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ 1 / 0 }}", "division"),
        ("{% for x in range(10**9) %}{% endfor %}", "Range too big"),
        (None, "no chat template"),
    ],
)
def test_failures_are_the_requests(source: str | None, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        ChatTemplate(source).render(MESSAGES)


@tiny
def test_strftime_now_and_variables() -> None:
    template = ChatTemplate("{{ strftime_now('%Y') }} {{ mood }}")
    assert template.render(MESSAGES, mood="calm") == f"{datetime.now().year} calm"


@tiny
def test_where_templates_are_found(tmp_path: Path) -> None:
    config = tmp_path / "tokenizer_config.json"
    assert load_chat_template(tmp_path).source is None
    config.write_text(json.dumps({"chat_template": "string {{ bos_token }}", **TOKENS}))
    assert load_chat_template(tmp_path).render(MESSAGES) == "string <s>"
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "named"}]
    config.write_text(json.dumps({"chat_template": named}))
    assert load_chat_template(tmp_path).render(MESSAGES) == "named"
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "json"}))
    assert load_chat_template(tmp_path).render(MESSAGES) == "json"
    (tmp_path / "chat_template.jinja").write_text("jinja")
    assert load_chat_template(tmp_path).render(MESSAGES) == "jinja"


@tiny
def test_damaged_template_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": 5}))
    with pytest.raises(CheckpointError, match="tokenizer_config"):
        load_chat_template(tmp_path)
    (tmp_path / "chat_template.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"chat_template\.json"):
        load_chat_template(tmp_path)


@pytest.mark.oracle
@pytest.mark.parametrize("source", [CHATML, GENERATION, TOOLS])
@pytest.mark.parametrize("prompt", [True, False])
def test_renders_as_transformers_does(source: str, prompt: bool) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered, _ = render_jinja_template(
        conversations=[MESSAGES], chat_template=source, add_generation_prompt=prompt, **TOKENS
    )
    template = ChatTemplate(source, TOKENS)
    assert template.render(MESSAGES, add_generation_prompt=prompt) == rendered[0]
