"""What a row sees."""

from __future__ import annotations

import pytest

from vivace.core.errors import UsageError
from vivace.core.sight import ALL, Sight

pytestmark = pytest.mark.tiny


def test_texts_name_sights() -> None:
    assert Sight.parse("none") == ALL
    assert Sight.parse("sinks:1024") == Sight(1024, 4)
    assert Sight.parse("sinks:1024:0") == Sight(1024, 0)
    assert Sight.parse("snap:33") == Sight(kept=33)
    for sight in (ALL, Sight(7, 16), Sight(kept=100)):
        assert Sight.parse(str(sight)) == sight


@pytest.mark.parametrize(
    "text", ["", "sinks", "sinks:", "sinks:0", "sinks:-1", "sinks:1:2:3", "snap:32", "snap:", "h2o"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="must be none, sinks:WINDOW, sinks"):
        Sight.parse(text)


def test_nothing_is_evicted_before_the_cache_is_full() -> None:
    sight = Sight(window=5, sinks=2)
    assert [sight.first_recent(p) for p in (0, 6, 7, 8)] == [0, 0, 3, 4]
    assert sight.reach == 7
    assert [ALL.first_recent(p) for p in (0, 10**6)] == [0, 0]


def test_a_layer_with_a_narrower_window_keeps_it() -> None:
    sight = Sight(window=5, sinks=2)
    assert sight.within(None) == sight.within(8) == sight
    assert sight.within(7) == Sight(7)
    assert ALL.within(7) == Sight(7)


def test_a_prompt_is_cut_once_it_is_computed() -> None:
    asked = Sight(kept=40)
    assert asked.cut is None
    sight = asked.of_prompt(100)
    assert (sight.cut, sight.first_kept) == (100, 60)
    assert [sight.first_recent(p) for p in (0, 99, 100, 500)] == [0, 0, 60, 60]
    assert [sight.within(50).first_recent(p) for p in (99, 100, 500)] == [50, 60, 451]
    assert sight.uncut == ALL


def test_no_step_has_rows_on_both_sides_of_a_cut() -> None:
    sight = Sight(kept=40).of_prompt(100)
    assert [sight.step_end(*step) for step in ((0, 99), (0, 130), (100, 130))] == [99, 100, 130]
    assert ALL.step_end(0, 130) == 130


@pytest.mark.parametrize("prompt", [1, 40])
def test_a_prompt_that_fits_is_not_cut(prompt: int) -> None:
    sight = Sight(kept=40).of_prompt(prompt)
    assert (sight.cut, sight.first_kept, sight.first_recent(500)) == (None, 0, 0)


def test_windows_know_no_prompt() -> None:
    assert Sight(5, 2).of_prompt(100) == Sight(5, 2).uncut == Sight(5, 2)
