"""What a simulation knows of an engine: the times of its steps, its pages and its limits."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from vivace.cache.blocks import KVGroup
from vivace.core.errors import UsageError
from vivace.scheduler.config import PolicyConfig, SchedulerConfig
from vivace.scheduler.step_time import NUM_FEATURES, StepTimes

VERSION = 2


@dataclass(frozen=True)
class Profile:
    """Attributes:
    model: its name.
    vocab_size: of the model.
    max_model_len: longest prompt plus answer.
    page_tokens: positions of a KV page.
    groups: KV pages.
    sharing: whether equal prefixes share pages.
    limits: of a step.
    policies: whose turn it is, and how many may wait for it.
    times: what steps take.
    ratios: what steps took over what `times` says, in growing order: the noise of the machine.
    """

    model: str
    vocab_size: int
    max_model_len: int
    page_tokens: int
    groups: tuple[KVGroup, ...]
    sharing: bool
    limits: SchedulerConfig
    policies: PolicyConfig
    times: StepTimes
    ratios: tuple[float, ...] = (1.0,)


def write_profile(path: Path, profile: Profile) -> None:
    groups = [group._asdict() for group in profile.groups]
    content = {"version": VERSION, **asdict(profile), "groups": groups}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_profile(path: Path) -> Profile:
    """Raises UsageError: the file cannot be read, or is no profile of this version."""
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"The profile {path} cannot be read: {error}.") from error
    try:
        if given.pop("version") != VERSION:
            raise ValueError("another version")
        times = StepTimes(tuple(given.pop("times")["coefficients"]))
        if len(times.coefficients) != NUM_FEATURES:
            raise ValueError("other features")
        groups = tuple(KVGroup(**group) for group in given.pop("groups"))
        limits = SchedulerConfig(**given.pop("limits"))
        policies = PolicyConfig(**given.pop("policies"))
        ratios = tuple(given.pop("ratios"))
        return Profile(
            **given, groups=groups, limits=limits, policies=policies, times=times, ratios=ratios
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path} is no profile of this version: make it with bench fit."
        ) from error
