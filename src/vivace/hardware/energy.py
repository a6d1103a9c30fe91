"""Energy that the processors and their memory took, where the machine counts it."""

from __future__ import annotations

from pathlib import Path

_POWERCAP = Path("/sys/class/powercap")


class EnergyMeter:
    """Running average power limit counters (Linux powercap; Intel, and AMD from Zen on): of the
    whole machine, whoever used it. Most machines let only root read them, virtual ones have none.

    A counter starts again at zero after some hundred kilojoules: it must be read every few minutes.
    """

    def __init__(self, root: Path = _POWERCAP) -> None:
        zones = (_zone(folder) for folder in sorted(root.glob("intel-rapl:*")))
        self._zones = [zone for zone in zones if zone is not None]

    def joules(self) -> dict[str, float]:
        """By domain ("package-0", "dram-0"), since the meter was made; empty where nothing is
        counted."""
        return {zone.name: zone.joules() for zone in self._zones}


class _Zone:
    def __init__(self, name: str, folder: Path, last: int) -> None:
        self.name = name
        self._folder = folder
        self._last = last
        self._microjoules = 0

    def joules(self) -> float:
        now = _number(self._folder / "energy_uj")
        if now is not None:
            if now < self._last:  # it went round
                self._microjoules += _number(self._folder / "max_energy_range_uj") or 0
            self._microjoules += now - self._last
            self._last = now
        return self._microjoules / 1e6


def _zone(folder: Path) -> _Zone | None:
    """A processor's package, or its memory, which the package leaves out. Other zones are parts of
    packages, or contain them."""
    name, now = _text(folder / "name"), _number(folder / "energy_uj")
    if now is None or not (name.startswith("package") or name == "dram"):
        return None
    processor = folder.name.split(":")[1]
    return _Zone(name if name != "dram" else f"dram-{processor}", folder, now)


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    """Empty where it is not there, or not for us to read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
