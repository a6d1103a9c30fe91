"""What a precision policy gives each weight."""

from __future__ import annotations

import pytest

from vivace.core.errors import UsageError
from vivace.formats.policy import UNQUANTIZED, PrecisionPolicy
from vivace.formats.qtensor import INT8
from vivace.formats.schemes import int4

pytestmark = pytest.mark.tiny

ROLES = ["embedding", "head", "layers.0.mlp.up", "layers.1.mlp.up", "layers.10.mlp.up"]


def schemes(text: str | None) -> list[object]:
    policy = PrecisionPolicy.parse(text)
    policy.check(ROLES)
    return [policy.scheme_of(role) for role in ROLES]


def test_a_scheme_alone_is_for_the_layers_and_the_head_is_int8() -> None:
    assert schemes("int4-g64") == [None, INT8, int4(64), int4(64), int4(64)]
    assert schemes("int8") == [None, INT8, INT8, INT8, INT8]
    assert schemes(None) == [None] * 5
    assert PrecisionPolicy.parse(None) == UNQUANTIZED


def test_exceptions_count_in_their_order() -> None:
    assert schemes("int4-g128,head=int4-g128,embedding=int8") == [INT8, *[int4(128)] * 4]
    assert schemes("int4-g32, layers.1.*=int8,*.up=none , layers.10.*=int4-g64") == [
        None, INT8, None, None, int4(64),
    ]  # fmt: skip
    assert schemes("layers.1.*=int8") == [None, None, None, INT8, None]
    assert schemes("int8, head = int4-g64") == [None, int4(64), INT8, INT8, INT8]


def test_experts_are_named_together() -> None:
    roles = [f"layers.0.mlp.experts.{e}.{half}" for e in range(12) for half in ("up", "down")]
    with pytest.raises(UsageError, match=r"are layers\.0\.mlp\.experts\.\*\.up, \S+\.down, and"):
        PrecisionPolicy.parse("*.sideways=int8").check(roles)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no scheme ''"),
        ("int4-g128,int8", "'int8' comes after another"),
        ("head=int8,int4-g128", "comes after another"),
        ("int4-g128,head=int5", "no scheme 'int5'"),
        ("int4-g128,", "'' comes after another"),
        ("int8,lm_head=int8", "'lm_head' names no weight.* layers.0.mlp.up, and"),
    ],
)
def test_what_cannot_be_meant_is_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        schemes(text)
