"""What a client may send. What is not here is refused by name: nothing is ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from vivace.core.sampling import MAX_LOGPROBS

MAX_STOPS = 64
MAX_BIASED_TOKENS = 1024

Int64: TypeAlias = Annotated[int, Field(ge=-(2**63), lt=2**63)]

ItemT = TypeVar("ItemT")
# Stops at the first bad item, for the same reason as in `Body._known_only`.
ListOf: TypeAlias = Annotated[list[ItemT], Field(fail_fast=True)]

Truncate: TypeAlias = Annotated[
    int | None,
    Field(description="how many of the last tokens to keep, or -1 for all that fit"),
]
CallId: TypeAlias = Annotated[str | None, Field(pattern=r"^[!-~]{1,128}$")]

Neutral: TypeAlias = Mapping[str, tuple[Any, ...]]

# Parameters of OpenAI's and vLLM's that are not supported, with the values that ask for nothing.
# null is always one of them.
NEUTRAL: Neutral = {
    "include_reasoning": (True,),
    "length_penalty": (1, 1.0),
    "logits_processors": ([],),
    "metadata": ({},),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "spaces_between_special_tokens": (True,),
    "store": (False,),
    "use_beam_search": (False,),
    **dict.fromkeys(
        (
            "guided_choice",
            "guided_grammar",
            "guided_json",
            "guided_regex",
            "kv_transfer_params",
            "repetition_detection",
            "session_id",
            "stream_interval",
            "structured_outputs",
            "suffix",
            "vllm_xargs",
        ),
        (),
    ),
}
NEUTRAL_IN_CHAT: Neutral = {
    **NEUTRAL,
    "best_of": (1,),
    "echo": (False,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "modalities": (["text"],),
    "parallel_tool_calls": (False, True),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    **dict.fromkeys(
        (
            "audio",
            "chat_template",
            "prediction",
            "reasoning_effort",
            "thinking_token_budget",
            "verbosity",
            "web_search_options",
        ),
        (),
    ),
}
# An assistant message that came from a client library carries these as null.
NEUTRAL_IN_MESSAGE: Neutral = {
    "annotations": ([],),
    "audio": (),
    "function_call": (),
    "reasoning_content": (),
    "refusal": (),
    "tool_calls": ([],),
}


class Body(BaseModel):
    """Strict about types ("0.7" is not a number) and about names."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    neutral: ClassVar[Neutral] = {}

    @model_validator(mode="before")
    @classmethod
    def _known_only(cls, fields: Any) -> Any:
        """Leave out unsupported parameters that ask for nothing.

        Of the others one stays, to be refused: a million must not cost a million complaints.
        """
        if not isinstance(fields, dict):
            return fields
        kept: dict[str, Any] = {}
        unknown: dict[str, Any] = {}
        for name, value in fields.items():
            if name in cls.model_fields:
                kept[name] = value
            elif not unknown and not cls._is_neutral(name, value):
                unknown[name] = value
        return kept | unknown

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Say what may be there without asking for anything."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).setdefault("properties", {})
        for name, values in cls.neutral.items():
            properties[name] = {"enum": [None, *values], "description": "Not supported."}
        return schema

    @classmethod
    def _is_neutral(cls, name: str, value: Any) -> bool:
        if name not in cls.neutral:
            return False
        # The type counts too: true equals 1.
        return value is None or any(
            value == other and type(value) is type(other) for other in cls.neutral[name]
        )


class ModelBody(Body):
    """A whole body. None everywhere means: not given."""

    model: str | None = None


class StreamOptions(Body):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class StandingBody(ModelBody):
    """Where a call stands among others."""

    user: str | None = None
    safety_identifier: str | None = None
    priority: Int64 | None = None
    timeout: Annotated[float, Field(gt=0)] | None = None
    drop_if_late: bool | None = None
    cache_salt: Annotated[str | None, Field(min_length=1, max_length=1024)] = None


class GenerationBody(StandingBody):
    """What both endpoints take. Ranges that do not depend on HTTP are checked by
    `SamplingParams`."""

    n: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    prompt_cache_key: str | None = None

    temperature: float | None = None
    top_k: Int64 | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Annotated[dict[str, float] | None, Field(max_length=MAX_BIASED_TOKENS)] = None
    allowed_token_ids: ListOf[int] | None = None
    bad_words: Annotated[ListOf[str] | None, Field(max_length=MAX_STOPS)] = None
    seed: Int64 | None = None

    stop: Annotated[
        str | Annotated[ListOf[str], Field(max_length=MAX_STOPS)] | None,
        Field(description=f"a string or a list of at most {MAX_STOPS} strings"),
    ] = None
    stop_token_ids: Annotated[ListOf[int] | None, Field(max_length=MAX_STOPS)] = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    max_tokens: Int64 | None = None
    min_tokens: Int64 | None = None

    prompt_logprobs: int | None = None
    kv_eviction: Annotated[str | None, Field(max_length=64)] = None
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None
    add_special_tokens: bool | None = None
    truncate_prompt_tokens: Truncate = None
    request_id: CallId = None


Prompts: TypeAlias = Annotated[
    str | ListOf[int] | ListOf[str] | ListOf[ListOf[int]],
    Field(description="a string, a list of token ids, or a list of either"),
]


class CompletionBody(GenerationBody):
    """POST /v1/completions."""

    neutral = NEUTRAL

    prompt: Prompts
    best_of: int | None = None
    logprobs: int | None = None
    echo: bool | None = None


class TextPart(Body):
    type: Literal["text"]
    text: str


class Message(Body):
    """One turn. `content` null is an empty turn."""

    neutral = NEUTRAL_IN_MESSAGE

    role: Literal["system", "developer", "user", "assistant"]
    content: str | ListOf[TextPart] | None = None
    name: str | None = None


class ChatBody(GenerationBody):
    """POST /v1/chat/completions."""

    neutral = NEUTRAL_IN_CHAT

    messages: Annotated[ListOf[Message], Field(min_length=1)]
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=MAX_LOGPROBS)] = None
    max_completion_tokens: Int64 | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    documents: ListOf[dict[str, Any]] | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class PromptBody(ModelBody):
    """Either `prompt` or `messages`."""

    prompt: Annotated[
        str | ListOf[int] | None, Field(description="a string or a list of token ids")
    ] = None
    messages: Annotated[ListOf[Message] | None, Field(min_length=1)] = None
    add_generation_prompt: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class PrefetchBody(PromptBody):
    """POST /v1/prefetch: a prompt as far as it is known."""

    cache_salt: Annotated[str | None, Field(min_length=1, max_length=1024)] = None
    kv_eviction: Annotated[str | None, Field(max_length=64)] = None
    pin: bool | None = None


class TokenizeBody(PromptBody):
    """POST /tokenize."""

    neutral: ClassVar[Neutral] = {
        "chat_template": (),
        "continue_final_message": (False,),
        "mm_processor_kwargs": (),
        "tools": ([],),
    }

    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeBody(ModelBody):
    """POST /detokenize."""

    tokens: ListOf[int]


class EmbeddingBody(StandingBody):
    """POST /v1/embeddings. Vectors have length 1, and the model's own number of dimensions."""

    neutral: ClassVar[Neutral] = {"dimensions": ()}

    input: Prompts
    encoding_format: Literal["float", "base64"] | None = None
    pooling: Literal["mean", "last"] | None = None
    truncate_prompt_tokens: Truncate = None


Texts: TypeAlias = Annotated[
    str | Annotated[ListOf[str], Field(min_length=1)],
    Field(description="a string or a list of strings"),
]


class ScoreBody(StandingBody):
    """POST /score: one text against one or several, or as many pairs as there are texts."""

    text_1: Texts
    text_2: Texts
    pooling: Literal["mean", "last"] | None = None
    truncate_prompt_tokens: Truncate = None


class RerankBody(StandingBody):
    """POST /rerank."""

    query: str
    documents: Annotated[ListOf[str], Field(min_length=1)]
    top_n: Annotated[int | None, Field(ge=1)] = None
    return_documents: bool | None = None
    pooling: Literal["mean", "last"] | None = None
    truncate_prompt_tokens: Truncate = None


class AbortBody(ModelBody):
    """POST /abort_request."""

    request_id: str | None = None
    abort_all: bool | None = None


class LoadAdapterBody(ModelBody):
    """POST /v1/load_lora_adapter."""

    neutral: ClassVar[Neutral] = {"is_3d_lora_weight": (False,), "load_inplace": (False,)}

    lora_name: Annotated[str, Field(min_length=1, max_length=128)]
    lora_path: Annotated[str, Field(min_length=1, max_length=4096)]


class UnloadAdapterBody(ModelBody):
    """POST /v1/unload_lora_adapter."""

    neutral: ClassVar[Neutral] = {"lora_int_id": ()}

    lora_name: Annotated[str, Field(min_length=1, max_length=128)]
