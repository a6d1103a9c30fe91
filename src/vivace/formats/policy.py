"""The precision policy: which scheme each weight of a model is rounded to as it is loaded."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from vivace.core.errors import UsageError
from vivace.formats.qtensor import INT8, Scheme
from vivace.formats.schemes import SCHEMES, scheme_named

KEPT = "none"  # in place of a scheme: as the backend keeps floats


@dataclass(frozen=True)
class Rule:
    """Weights whose role matches a shell pattern; no scheme leaves them in the backend's dtype."""

    pattern: str
    scheme: Scheme | None

    def matches(self, role: str) -> bool:
        return fnmatchcase(role, self.pattern)


@dataclass(frozen=True)
class PrecisionPolicy:
    """Of the rules that match a weight's role, the last one counts; without any it stays as it is.

    Roles are those of the decoder: "embedding", "head", "layers.3.attention.qkv" or ".out",
    "layers.3.mlp.up" or ".down", "layers.3.mlp.experts.*.up" or ".down", the same for all experts
    of a layer. Routers have none: they decide too much to save so little.
    """

    rules: tuple[Rule, ...] = ()

    @staticmethod
    def parse(
        text: str | None, schemes: Mapping[str, Scheme] = SCHEMES, head: Scheme | None = INT8
    ) -> PrecisionPolicy:
        """A scheme for all layers, exceptions as pattern=scheme, or both: "int4-g128",
        "int4-g128,head=int4-g64,layers.0.*=none". The embedding stays as it is unless it is named.

        Args:
            schemes: those there are, by name.
            head: what it is rounded to beside a scheme for all layers.

        Raises:
            UsageError: a scheme is unknown, or there is more than one for all layers.
        """
        if text is None:
            return PrecisionPolicy()
        rules: list[Rule] = []
        for place, item in enumerate(text.split(",")):
            pattern, equals, name = (part.strip() for part in item.rpartition("="))
            if equals:
                rules.append(Rule(pattern, None if name == KEPT else scheme_named(name, schemes)))
            elif place == 0:
                rules.append(Rule("layers.*", scheme_named(name, schemes)))
                rules += [] if head is None else [Rule("head", head)]
            else:
                raise UsageError(
                    f"In quantize={text!r}, {name!r} comes after another scheme: give one for all "
                    "layers first, then exceptions such as head=int8."
                )
        return PrecisionPolicy(tuple(rules))

    def scheme_of(self, role: str) -> Scheme | None:
        found = [rule.scheme for rule in self.rules if rule.matches(role)]
        return found[-1] if found else None

    def check(self, roles: Collection[str]) -> None:
        """Raises UsageError where a rule matches none of a model's roles."""
        for rule in self.rules:
            if not any(map(rule.matches, roles)):
                raise UsageError(
                    f"{rule.pattern!r} names no weight of this model; the first layer's are "
                    f"{', '.join(_of_first_layer(roles))}, and there are embedding and head."
                )


def _of_first_layer(roles: Collection[str]) -> dict[str, None]:
    """In order, the experts together."""
    first = (role for role in roles if role.startswith("layers.0."))
    return dict.fromkeys(re.sub(r"experts\.\d+", "experts.*", role) for role in first)


UNQUANTIZED = PrecisionPolicy()
