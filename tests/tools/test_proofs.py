"""The tools that keep the proofs: staleness, merging, and the README's table."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.tiny

RESULT = {"claim": "C", "bar": "B", "measured": "M", "holds": True, "absent": None}


@pytest.fixture
def prove(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    import prove_foundation

    monkeypatch.setattr(prove_foundation, "RESULTS", tmp_path / "proofs" / "foundation.json")
    return prove_foundation


def stub(prove: ModuleType, monkeypatch: pytest.MonkeyPatch, holds: bool) -> None:
    from claims.row import Outcome, Row

    rows = {
        number: Row(f"claim {number}", "bar", "no time", lambda: Outcome("measured", holds))
        for number in (1, 2)
    }
    monkeypatch.setattr(prove, "ROWS", rows)


def run(prove: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["prove_foundation.py", *arguments])
    return int(prove.main())


def test_rows_are_merged_into_the_file(
    prove: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub(prove, monkeypatch, holds=True)
    assert run(prove, monkeypatch, "--row", "2") == 0
    assert run(prove, monkeypatch, "--row", "1") == 0
    assert list(json.loads(prove.RESULTS.read_text())) == ["1", "2"]
    stub(prove, monkeypatch, holds=False)
    assert run(prove, monkeypatch, "--row", "1") == 1
    capsys.readouterr()
    run(prove, monkeypatch, "--show")
    shown = capsys.readouterr().out
    assert "1. [FAILS]" in shown
    assert "2. [holds]" in shown


def test_rows_that_run_at_the_same_time_keep_each_others_results(tmp_path: Path) -> None:
    from claims.row import Outcome, Row
    from claims.runner import Proof, run_rows

    file = tmp_path / "proofs.json"

    def beside() -> Outcome:
        file.write_text(json.dumps({"2": {**RESULT, "sources": "a"}}))  # as another process does
        return Outcome("measured", holds=True)

    rows = {n: Row("claim", "bar", "no time", beside) for n in (1, 2)}
    assert run_rows(Proof(rows, file), 1, show=False) == 0
    assert list(json.loads(file.read_text())) == ["1", "2"]


def test_a_row_made_on_other_sources_is_stale() -> None:
    from claims.runner import state

    result = {**RESULT, "sources": "a"}
    assert state(result, "a") == "holds"
    assert state(result, "b") == "stale"
    assert state(None, "a") == "not run"
    assert state({**result, "holds": False}, "a") == "FAILS"
    for holds in (False, True):
        assert state({**result, "holds": holds, "absent": "a GPU"}, "a") == "absent"


def test_the_hash_sees_names_and_contents(tmp_path: Path) -> None:
    from claims.sources import sources_hash

    source = tmp_path / "native" / "a.cpp"
    source.parent.mkdir()
    source.write_text("int a;")
    first = sources_hash(tmp_path)
    source.write_text("int b;")
    second = sources_hash(tmp_path)
    source.rename(source.with_name("b.cpp"))
    third = sources_hash(tmp_path)
    assert len({first, second, third}) == 3
    source.with_name("b.so").write_text("no source")
    assert third == sources_hash(tmp_path)
    model = tmp_path / "src" / "assets" / "model.safetensors"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"weights")
    assert third != sources_hash(tmp_path)


def test_a_row_that_cannot_run_costs_no_other(
    prove: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from claims.row import Row

    def fail() -> None:
        raise RuntimeError("no compiler")

    stub(prove, monkeypatch, holds=True)
    monkeypatch.setitem(prove.ROWS, 1, Row("claim", "bar", "no time", fail))
    assert run(prove, monkeypatch) == 1
    results = json.loads(prove.RESULTS.read_text())
    assert results["1"]["measured"] == "could not run: RuntimeError: no compiler"
    assert [results[number]["holds"] for number in "12"] == [False, True]


def test_the_demo_must_complete_its_prompt() -> None:
    from claims.clean_machine import completes, demo_prompt

    prompt, serve = demo_prompt(), "\nTo serve it over HTTP:  vivace serve\n"
    assert prompt
    assert completes(f"Python:\n\n{prompt}path) as file:\n{serve}")
    assert not completes(f"Python:\n\n{prompt}\n{serve}")
    assert not completes(f"Python:\n\n{prompt}path) as file:\n")
    assert not completes(f"path) as file:\n{serve}")


def test_what_is_absent_does_not_hold() -> None:
    from claims.by_tests import tests_pass

    outcome = tests_pass("tests/there_is_none.py")
    assert (outcome.holds, outcome.absent) == (False, "tests/there_is_none.py")


def test_the_table_stands_between_its_marks() -> None:
    from marked import begin, end, with_section
    from readme_table import HEAD, measured_section

    section = measured_section({"2": RESULT, "10": {**RESULT, "measured": "M; N", "holds": False}})
    page = with_section(f"a\n{begin('m')}\nold\n{end('m')}\nb\n", "m", section)
    assert page.startswith(f"a\n{begin('m')}\n\n{HEAD[0]}")
    assert page.count("| C | B | M | yes |") == page.count("| C | B | M<br>N | no |") == 1
    assert with_section(page, "m", section) == page
    assert measured_section({}) == ""


def test_every_table_has_a_place() -> None:
    from marked import begin, end
    from readme_table import ROOT, TABLES

    for mark, (page, _) in TABLES.items():
        text = (ROOT / page).read_text()
        assert text.count(begin(mark)) == text.count(end(mark)) == 1


def test_extra_requirements() -> None:
    from extra_requirements import extra_requirements

    lines = ["numpy>=1", "pytest>=8; extra == 'dev'", 'torch>=2; extra == "oracle"']
    assert extra_requirements(lines, "dev") == ["pytest>=8"]
