"""Where a model's files are: bundled, in a folder, or on a Hugging Face hub."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from vivace.core.errors import CheckpointError

BUNDLED_MODEL = "vivace-mini"

_ASSETS = Path(__file__).parents[1] / "assets"

_INDEX = "model.safetensors.index.json"
# All that is read of a checkpoint but the shards, which the index names; a hub often holds the same
# weights in other formats too.
_NEEDED = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    _INDEX,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
)
# Fetched only where tokenizer.json is missing, so that the tokenizer's loader can name them.
_OTHER_TOKENIZERS = ("tokenizer.model", "spiece.model", "tekken.json", "vocab.json")

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def resolve_model(model: str | None, notify: Callable[[str], None] | None = None) -> Path:
    """The folder of a model, or its GGUF file; fetched from the hub where it must be.

    Args:
        model: a local folder or .gguf file, the name of a bundled model, or a hub id; None is
            vivace-mini.
        notify: told, in a sentence, before anything is fetched.

    Raises:
        CheckpointError: there is no such model, or it cannot be fetched.
    """
    name = BUNDLED_MODEL if model is None else model
    path = Path(name).expanduser()
    if path.suffix.lower() == ".gguf":
        if path.is_file():
            return path
        raise CheckpointError(f"There is no file {name}.")
    if model and path.is_dir():
        return path
    bundled = _ASSETS / name
    if _HUB_ID.fullmatch(name) and bundled.is_dir():
        return bundled
    if model is None:
        raise CheckpointError(
            f"The bundled model {name} is missing from this installation; "
            "install vivace again, or name a model."
        )
    if path.is_file():
        raise CheckpointError(f"{name} is a file; give the folder that holds config.json.")
    if not _HUB_ID.fullmatch(name):
        raise CheckpointError(f"There is no folder {name}.")
    return _fetch(name, notify)


def _fetch(model: str, notify: Callable[[str], None] | None) -> Path:
    """A hub model's snapshot in huggingface_hub's cache.

    HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE and HF_TOKEN mean what they mean there. Its progress bars
    go to standard error.
    """
    from huggingface_hub import snapshot_download  # only now: most models are local

    if notify:
        notify(f"Looking for {model} on the hub and in its cache.")
    try:
        folder = Path(snapshot_download(model, allow_patterns=list(_NEEDED)))
        more = _shards(folder / _INDEX)
        if not (folder / "tokenizer.json").exists():
            more += _OTHER_TOKENIZERS
        if more:
            snapshot_download(model, allow_patterns=more)
    except Exception as error:  # whatever the hub library's HTTP client raises
        raise CheckpointError(_explain(model, error)) from error
    if not any(folder.glob("*.safetensors")):
        raise CheckpointError(
            f"{model} has no model.safetensors; convert it with Transformers' "
            "save_pretrained, or choose a repository that has one."
        )
    return folder


def _shards(index: Path) -> list[str]:
    """The files that an index says the weights are in."""
    if not index.exists():
        return []
    return sorted(set(json.loads(index.read_text())["weight_map"].values()))


def _explain(model: str, error: Exception) -> str:
    """A failed fetch in one sentence that says what to do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return f"{model} is gated: accept its terms on {constants.ENDPOINT} and set HF_TOKEN."
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"There is no folder {model}, and no such model on {constants.ENDPOINT}; "
            "check the name, or set HF_TOKEN if it is private."
        )
    if isinstance(error, LocalEntryNotFoundError) and constants.HF_HUB_OFFLINE:
        return f"{model} is not whole in the hub's cache, and HF_HUB_OFFLINE is set; unset it once."
    if isinstance(error, LocalEntryNotFoundError):
        return (
            f"{model} is not whole in the hub's cache, and {constants.ENDPOINT} cannot be reached; "
            "check the network and HF_ENDPOINT, or give a local folder."
        )
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return f"{model} cannot be fetched from {constants.ENDPOINT}: {reason[0]}"
