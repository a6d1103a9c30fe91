"""What a family file gives: how its config.json becomes a `ModelSpec`, and its tensor names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vivace.models.config import Config
from vivace.models.spec import ModelSpec
from vivace.models.weights import Layout


@dataclass(frozen=True)
class Family:
    """Attributes:
    spec: reads the configuration.
    layout: names the tensors.
    defaults: values of keys that config.json may leave out, as in Transformers.
    normalize: turns config.json into the usual keys first.
    """

    spec: Callable[[Config], ModelSpec]
    layout: Layout = field(default_factory=Layout)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    normalize: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict
