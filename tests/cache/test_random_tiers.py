"""Random use of pages, tiers and pins: what a sequence finds is always what was computed for
its tokens."""

from __future__ import annotations

import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_user import PAGE
from tiered_user import TieredUser

from vivace.cache.blocks import KVGroup
from vivace.cache.prefix import Scope
from vivace.core.errors import RequestError
from vivace.core.sight import ALL, Sight

MAX_TOKENS = 40
OPERATIONS = 300
SALTS = ("", "", "", "salt", None)
SIGHTS = (*[ALL] * 5, Sight(3, 2), Sight(PAGE, PAGE + 1), Sight(5), Sight(kept=9))

windows = st.sampled_from([None, None, 1, 3, PAGE, PAGE + 1, 11])


@st.composite
def groups(draw: st.DrawFn) -> list[KVGroup]:
    """One to three groups, each with room for one longest sequence and some pins."""
    return [
        KVGroup(draw(st.integers(MAX_TOKENS // PAGE, 3 * MAX_TOKENS // PAGE)), window)
        for window in draw(st.lists(windows, min_size=1, max_size=3))
    ]


class Storm:
    """One random operation after another."""

    def __init__(self, user: TieredUser, folder: Path, rng: random.Random) -> None:
        self.user, self.folder, self.rng = user, folder, rng
        self.damaged = 0
        self.broken = 0

    def operate(self) -> None:
        chances = {
            self.open: 4,
            self.compute: 8,
            self.generate: 4,
            self.catch_up: 2,
            self.release: 3,
            self.pin: 1,
            self.work: 4,
            self.damage: 0.2,
            self.restart: 0.2,
        }
        self.rng.choices(list(chances), list(chances.values()))[0]()

    def tokens(self) -> list[int]:
        blocks = [self.rng.choice((0, 0, 1)) for _ in range(self.rng.randint(0, 7))]
        return [block for block in blocks for _ in range(PAGE)] + [0] * self.rng.randint(1, PAGE)

    def open(self) -> None:
        tokens, salt, sight = self.tokens(), self.rng.choice(SALTS), self.rng.choice(SIGHTS)
        if self.rng.random() < 0.7:
            self.user.kv.want(tokens, Scope(salt, sight))
            self.user.executor.work(self.rng.choice((0, 1, 100)))
        if len(self.user.live) < 8:
            self.user.open(tokens, salt, self.rng.randint(0, 2), sight)

    def compute(self) -> None:
        if self.user.live:
            index = self.rng.randrange(len(self.user.live))
            self.user.compute(index, self.rng.choice((1, 3, 7, 40)))

    def generate(self) -> None:
        if not self.user.live:
            return
        index = self.rng.randrange(len(self.user.live))
        if len(self.user.live[index][1]) < MAX_TOKENS:
            self.user.append(index, self.rng.randint(0, 1))
            self.user.compute(index, 1)

    def catch_up(self) -> None:
        if self.user.live:
            self.user.catch_up(self.rng.randrange(len(self.user.live)))

    def release(self) -> None:
        if self.user.live:
            self.user.release(self.rng.randrange(len(self.user.live)))

    def pin(self) -> None:
        pin_id = self.rng.choice("ab")
        if self.user.kv.pins.remove(pin_id):
            return
        try:
            scope = Scope(self.rng.choice(("", "salt")), self.rng.choice(SIGHTS))
            self.user.kv.pins.add(pin_id, self.tokens(), scope)
        except RequestError:
            return

    def work(self) -> None:
        self.user.kv.write_down(self.rng.randint(1, 9))
        self.user.executor.work(self.rng.choice((0, 1, 100)))

    def damage(self) -> None:
        files = sorted(self.folder.glob("*/*.page"))
        if files:
            path = self.rng.choice(files)
            content = bytearray(path.read_bytes())
            content[self.rng.randrange(len(content))] ^= 1 << self.rng.randrange(8)
            path.write_bytes(content)

    def restart(self) -> None:
        if self.rng.random() < 0.5:
            self.user.write_everything_down()
        self.broken += self.user.tiers.stats().broken
        self.user.restart()


@pytest.mark.parametrize("seed", range(4))
def test_any_use_of_the_tiers_gives_what_was_computed(seed: int) -> None:
    seen = {"restored": 0, "fetched_used": 0, "broken": 0}

    @settings(max_examples=15, deadline=None, derandomize=True, database=None)
    @given(
        groups=groups(),
        host_pages=st.integers(1, 30),
        disk_pages=st.sampled_from([None, 4, 60]),
        number=st.integers(0, 2**32),
    )
    def run(groups: list[KVGroup], host_pages: int, disk_pages: int | None, number: int) -> None:
        with TemporaryDirectory() as name:
            folder = Path(name)
            user = TieredUser(
                groups,
                None if disk_pages is None else folder,
                host_pages,
                disk_bytes=(disk_pages or 0) * 300,
                longest=MAX_TOKENS,
            )
            storm = Storm(user, folder, random.Random(number + seed))
            for _ in range(OPERATIONS):
                storm.operate()
                user.check()
                assert user.tiers.host.nbytes <= host_pages * user.tiers.mover.page_bytes[0]
            stats = user.tiers.stats()
            seen["restored"] += stats.restored
            seen["fetched_used"] += stats.fetched_used
            seen["broken"] += stats.broken + storm.broken
            while user.live:
                user.release(0)
            for pin_id in user.kv.pins.ids:
                user.kv.pins.remove(pin_id)
            assert user.kv.pages_used == 0
            user.check()

    run()
    assert seen["restored"] > 0
    assert seen["fetched_used"] > 0
