"""Names of schemes."""

from __future__ import annotations

import pytest

from vivace.core.errors import UsageError
from vivace.formats.qtensor import INT8
from vivace.formats.schemes import SCHEMES, int4, scheme_named

pytestmark = pytest.mark.tiny


def test_names_say_what_a_scheme_is() -> None:
    assert scheme_named("int8") == scheme_named("int8-a8") == INT8
    assert scheme_named("int4-g128") == scheme_named("int4-g128-a8") == int4(128)
    assert scheme_named("int4-g64-zp-a16") == int4(64, zero_points=True, activation_bits=None)
    assert all(scheme_named(name).name == name for name in SCHEMES)
    assert len(SCHEMES) == 13


@pytest.mark.parametrize("name", ["int4", "int8-a16", "int4-g48", "int4-g64-a16-a8", "INT8", ""])
def test_unknown_names_are_refused_with_all_there_are(name: str) -> None:
    with pytest.raises(UsageError, match=r"int8, int4-g32, .* int4-g128-zp-a16"):
        scheme_named(name)
