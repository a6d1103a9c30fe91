"""All that goes into a GGUF file, known before any weight is read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivace.core.errors import UsageError, VivaceError
from vivace.formats.checkpoint import Checkpoint
from vivace.formats.gguf.blocks import TYPES
from vivace.formats.gguf.config import model_config
from vivace.formats.gguf.header import Header, Metadata, TensorInfo
from vivace.formats.gguf.vocabulary import tokenizer_metadata
from vivace.formats.gguf.writer import NewTensor
from vivace.models.loader import model_spec
from vivace.models.spec import ModelSpec
from vivace.models.weights import Plan
from vivace.optimize.gguf.metadata import (
    architecture_named,
    end_metadata,
    general_metadata,
    model_metadata,
    rope_tensors,
)
from vivace.optimize.gguf.mixtures import FileType
from vivace.optimize.gguf.targets import Target, targets_of
from vivace.text.chat import load_chat_template
from vivace.text.tokenizer import load_tokenizer, special_token, tokenizer_config

RECIPE_KEY = "vivace.recipe"
_FLOAT32 = TYPES[0]


@dataclass(frozen=True)
class Contents:
    """Attributes:
    targets: what becomes of the checkpoint's tensors.
    extra: small vectors that checkpoints do not have.
    described: metadata of the model and its tokenizer.
    """

    targets: tuple[Target, ...]
    extra: Mapping[str, NDArray[np.float32]]
    described: Metadata

    @property
    def tensors(self) -> list[NewTensor]:
        """In the order of the file."""
        extra = [NewTensor(name, v.shape, _FLOAT32) for name, v in self.extra.items()]
        return [*(target.tensor for target in self.targets), *extra]

    def metadata(self, recipe: Mapping[str, Any]) -> Metadata:
        return {**self.described, RECIPE_KEY: json.dumps(recipe)}


def contents_of(
    folder: Path, checkpoint: Checkpoint, spec: ModelSpec, plan: Plan, file_type: FileType
) -> Contents:
    """Raises UsageError: GGUF, or what vivace writes of it, cannot say all of the model."""
    found = architecture_named(spec.family)
    if found is None:
        raise UsageError(f"Models of type {spec.family} cannot be written as GGUF.")
    name, architecture = found
    targets = tuple(targets_of(plan, spec, architecture, file_type))
    described = {
        **general_metadata(name, folder.stem, file_type),
        **model_metadata(checkpoint, name, architecture, spec),
        **_tokenizer(folder, checkpoint, spec),
    }
    contents = Contents(targets, rope_tensors(checkpoint, spec), described)
    _check_read_back(contents, spec)
    return contents


def _tokenizer(folder: Path, checkpoint: Checkpoint, spec: ModelSpec) -> dict[str, Any]:
    tokenizer = load_tokenizer(folder)
    if tokenizer is None:
        return {"tokenizer.ggml.model": "none"}
    config = tokenizer_config(folder)
    names = ("bos_token", "eos_token", "unk_token", "pad_token")
    special = {name: special_token(config, name) for name in names}
    bos = tokenizer.bos_token_id
    adds_bos = bos is not None and tokenizer.encode("a")[:1] == [bos]
    described = json.loads(tokenizer.to_json())
    template = load_chat_template(folder).source
    return {
        **tokenizer_metadata(described, special, adds_bos, spec.vocab_size),
        **end_metadata(checkpoint),
        **({} if template is None else {"tokenizer.chat_template": template}),
    }


def _check_read_back(contents: Contents, spec: ModelSpec) -> None:
    """Metadata say less than config.json can: what is read back must be the same model."""
    infos = {t.name: TensorInfo(t.name, t.shape, 0, 0) for t in contents.tensors}
    factors = {name: values.tolist() for name, values in contents.extra.items()}
    header = Header(contents.described, infos)
    try:
        again = model_spec(model_config(Path("it"), header, factors), spec.max_model_len)
    except VivaceError as error:
        raise UsageError(f"The model cannot be written as GGUF: {error}") from error
    wrong = _difference(spec, replace(again, family=spec.family))
    if wrong is not None:
        raise UsageError(
            f"The model cannot be written as GGUF: its {wrong} would be read back as something "
            "else."
        )


def _difference(given: Any, again: Any, where: str = "kind") -> str | None:
    """The name of something that differs by more than float32 rounds; None where nothing does."""
    if isinstance(given, float) and isinstance(again, float):
        return None if math.isclose(given, again, rel_tol=1e-5) else where
    if is_dataclass(given) and type(given) is type(again):
        pairs = ((f.name, getattr(given, f.name), getattr(again, f.name)) for f in fields(given))
    elif isinstance(given, tuple) and isinstance(again, tuple) and len(given) == len(again):
        pairs = ((where, *pair) for pair in zip(given, again, strict=True))
    else:
        return None if given == again else where
    return next((w for name, a, b in pairs if (w := _difference(a, b, name))), None)
