"""The held-out text that ships is the one its provenance describes."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files

import pytest

from vivace.evaluate.corpus import held_out_files

pytestmark = pytest.mark.tiny


def test_the_text_is_what_its_provenance_says() -> None:
    provenance = json.loads((files("vivace") / "assets" / "heldout.json").read_text())
    held_out = held_out_files()
    text = "".join(file.text for file in held_out).encode()
    assert [file.path for file in held_out] == provenance["files"]
    assert hashlib.sha256(text).hexdigest() == provenance["sha256"]
    assert sum(file.num_bytes for file in held_out) == provenance["bytes"] == len(text)
    assert provenance["xz_9_bytes"] < provenance["bytes"] / 4


def test_every_file_is_held_out_by_the_rule() -> None:
    for file in held_out_files():
        assert int(hashlib.sha256(file.path.encode()).hexdigest(), 16) % 20 == 0
