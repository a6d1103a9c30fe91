"""Energy counters, read from a fake /sys/class/powercap."""

from __future__ import annotations

from pathlib import Path

import pytest

from vivace.hardware.energy import EnergyMeter

pytestmark = pytest.mark.tiny


def zone(root: Path, folder: str, name: str, microjoules: int) -> Path:
    path = root / folder
    path.mkdir(exist_ok=True)
    (path / "name").write_text(name + "\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text("262143328850\n")
    return path


def test_packages_and_memory_count_since_the_start(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 1)  # is in its package
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 7)
    zone(tmp_path, "intel-rapl:1", "psys", 1)  # contains the package
    meter = EnergyMeter(tmp_path)
    assert meter.joules() == {"package-0": 0, "dram-0": 0}
    (package / "energy_uj").write_text("8500000\n")
    (memory / "energy_uj").write_text("1000007\n")
    assert meter.joules() == {"package-0": 3.5, "dram-0": 1}
    assert meter.joules() == {"package-0": 3.5, "dram-0": 1}


def test_a_counter_that_went_round_goes_on(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 262143328850 - 1_000_000)
    meter = EnergyMeter(tmp_path)
    (package / "energy_uj").write_text("500000\n")
    assert meter.joules() == {"package-0": 1.5}


def test_a_counter_that_may_not_be_read_is_absent(tmp_path: Path) -> None:
    (zone(tmp_path, "intel-rapl:0", "package-0", 5) / "energy_uj").unlink()
    assert EnergyMeter(tmp_path).joules() == {}
    assert EnergyMeter(tmp_path / "none").joules() == {}
