"""What the corpus is made of, and that the held-out is apart from it."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest
from corpus import SourceFile, is_included, provenance, read_library, split, write_held_out

pytestmark = pytest.mark.tiny


def source(name: str, lines: int = 40) -> str:
    return "".join(f"{name}_{i} = {i}\n\n" for i in range(lines))


def path(held_out: bool, number: int = 0) -> str:
    """The number-th name that the rule holds out, or does not."""
    files = (SourceFile(f"file{i}.py", "") for i in range(1000))
    return [file.path for file in files if file.is_held_out_by_hash is held_out][number]


def test_the_rule_hashes_the_path_alone() -> None:
    assert SourceFile("functools.py", "one").is_held_out_by_hash
    assert SourceFile("functools.py", "other").is_held_out_by_hash
    assert not SourceFile("os.py", "one").is_held_out_by_hash


@pytest.mark.parametrize(
    ("path", "included"),
    [
        ("os.py", True),
        ("json/decoder.py", True),
        ("test/test_os.py", False),
        ("sqlite3/test/dbapi.py", False),
        ("idlelib/idle_test/mock_tk.py", False),
        ("lib2to3/main.py", False),
        ("encodings/cp1252.py", False),
        ("html/entities.py", False),
        ("html/parser.py", True),
        ("site-packages/numpy/__init__.py", False),
        ("_sysconfigdata__linux_x86_64-linux-gnu.py", False),
        ("config-3.11-x86_64-linux-gnu/python-config.py", False),
        ("LICENSE.txt", False),
    ],
)
def test_left_out_are_tests_tables_and_what_is_bundled(path: str, included: bool) -> None:
    assert is_included(path) is included


def test_near_duplicates_are_in_neither_set() -> None:
    train = SourceFile(path(held_out=False), source("common") + source("mine"))
    copy = SourceFile(path(held_out=True), source("common", 39) + source("few", 9))
    own = SourceFile(path(held_out=True, number=1), source("own") + source("common", 9))
    corpus = split([train, copy, own])
    assert corpus.train == (train,)
    assert corpus.held_out == (own,)
    assert corpus.near_duplicates == (copy,)


def test_a_library_is_read_by_path_in_its_own_encodings(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "left_out.py").write_text("x = 1\n")
    (tmp_path / "b.py").write_bytes(b"# -*- coding: latin-1 -*-\nname = '\xe9'\n")
    (tmp_path / "a.py").write_text("y = 2\n")
    (tmp_path / "empty.py").write_text("\n")
    files = read_library(tmp_path)
    assert [file.path for file in files] == ["a.py", "b.py"]
    assert "é" in files[1].text


def test_the_held_out_is_written_with_its_provenance(tmp_path: Path) -> None:
    held_out = SourceFile(path(held_out=True), source("é"))
    corpus = split([held_out, SourceFile(path(held_out=False), source("train"))])
    write_held_out(corpus, tmp_path)
    lines = lzma.decompress((tmp_path / "heldout.jsonl.xz").read_bytes()).decode().splitlines()
    assert [json.loads(line) for line in lines] == [{"path": held_out.path, "text": held_out.text}]
    written = json.loads((tmp_path / "heldout.json").read_text())
    assert written == provenance(corpus)
    assert written["bytes"] == len(held_out.text.encode())
    assert written["files"] == [held_out.path]
