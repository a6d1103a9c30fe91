"""What a client may send. What is not here is refused by name: nothing is ignored."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from vivace.core.sampling import MAX_LOGPROBS
from vivace.serve.strict import Body, Int64, ListOf, Neutral
from vivace.serve.structured_schemas import Choices, ResponseFormat, StructuredOutputs, Text
from vivace.serve.tool_schemas import Tool, ToolChoice
from vivace.serve.turn_schemas import Message

MAX_STOPS = 64
MAX_BIASED_TOKENS = 1024
MAX_TOOLS = 128

Truncate: TypeAlias = Annotated[
    int | None,
    Field(description="how many of the last tokens to keep, or -1 for all that fit"),
]
CallId: TypeAlias = Annotated[str | None, Field(pattern=r"^[!-~]{1,128}$")]

# Parameters of OpenAI's and vLLM's that are not supported, with the values that ask for nothing.
# null is always one of them.
NEUTRAL: Neutral = {
    "length_penalty": (1, 1.0),
    "logits_processors": ([],),
    "metadata": ({},),
    "service_tier": ("auto", "default"),
    "spaces_between_special_tokens": (True,),
    "store": (False,),
    "use_beam_search": (False,),
    **dict.fromkeys(
        (
            "kv_transfer_params",
            "repetition_detection",
            "session_id",
            "stream_interval",
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

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: str | dict[str, Any] | None = None
    guided_regex: Text | None = None
    guided_choice: Choices | None = None
    guided_grammar: Text | None = None

    prompt_logprobs: int | None = None
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
    tools: Annotated[ListOf[Tool] | None, Field(max_length=MAX_TOOLS)] = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    include_reasoning: bool | None = None


class PromptBody(ModelBody):
    """Either `prompt` or `messages`."""

    prompt: Annotated[
        str | ListOf[int] | None, Field(description="a string or a list of token ids")
    ] = None
    messages: Annotated[ListOf[Message] | None, Field(min_length=1)] = None
    add_generation_prompt: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    tools: Annotated[ListOf[Tool] | None, Field(max_length=MAX_TOOLS)] = None


class PrefetchBody(PromptBody):
    """POST /v1/prefetch: a prompt as far as it is known."""

    cache_salt: Annotated[str | None, Field(min_length=1, max_length=1024)] = None
    pin: bool | None = None


class TokenizeBody(PromptBody):
    """POST /tokenize."""

    neutral: ClassVar[Neutral] = {
        "chat_template": (),
        "continue_final_message": (False,),
        "mm_processor_kwargs": (),
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
