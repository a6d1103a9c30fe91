"""What all that answers for one model is made of."""

from __future__ import annotations

from dataclasses import dataclass

from vivace.core.stats import EngineInfo
from vivace.serve.generation import Generation
from vivace.serve.metrics import ServerMetrics
from vivace.serve.names import ServedNames
from vivace.serve.prompts import Prompts


@dataclass(frozen=True)
class ModelParts:
    """Attributes:
    names: what answers call the model, and its adapters.
    """

    info: EngineInfo
    prompts: Prompts
    generation: Generation
    metrics: ServerMetrics
    names: ServedNames
