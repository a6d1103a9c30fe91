"""Any file of text can be scored; what cannot be read is explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from vivace.core.errors import UsageError
from vivace.evaluate.corpus import text_file

pytestmark = pytest.mark.tiny


def test_a_text_and_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("größer\r\n".encode())
    file = text_file(tmp_path / "a.txt")
    assert (file.path, file.num_bytes) == (str(tmp_path / "a.txt"), 10)


@pytest.mark.parametrize(("content", "reason"), [(b"\xff\xfe", "not UTF-8"), (b"", "is empty")])
def test_what_is_no_text(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(UsageError, match=reason):
        text_file(tmp_path / "a.txt")


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        text_file(tmp_path / "a.txt")
