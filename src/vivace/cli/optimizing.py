"""What the commands that write smaller models share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vivace.cli.bench_output import print_table, readable
from vivace.cli.console import notice, print_json, progress
from vivace.core.config import BackendChoice, DTypeChoice
from vivace.core.errors import UsageError
from vivace.optimize.plans import CalibrationPlan, EvidencePlan

if TYPE_CHECKING:
    from vivace.backends.protocol import Backend
    from vivace.optimize.calibrate import TokenIds
    from vivace.optimize.layerwise import Made


def backend_for(
    folder: Path, backend: BackendChoice, dtype: DTypeChoice, threads: int | None
) -> Backend:
    """What computes on a model, all cores unless told otherwise."""
    from vivace.core.config import EngineConfig
    from vivace.engine.backends import Wanted, choose_backend
    from vivace.formats.checkpoint import open_checkpoint
    from vivace.hardware.machine import detect

    config = EngineConfig(str(folder), backend, dtype, threads=threads, packed_cache=False)
    checkpoint = open_checkpoint(folder)
    return choose_backend(Wanted(config, checkpoint, threads or detect().cores, notice))


def calibration_runs(
    folder: Path, path: Path | None, plan: CalibrationPlan
) -> tuple[TokenIds, ...]:
    from vivace.evaluate.corpus import text_file
    from vivace.optimize.calibrate import default_texts, draw
    from vivace.text.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(folder)
    if tokenizer is None:
        raise UsageError("The model has no tokenizer to read text with; take a --method without.")
    given = None if path is None else text_file(path).text
    texts = default_texts() if given is None else [lambda: given]
    return tuple(draw(texts, tokenizer.encode, plan))


def publish(
    made: Made,
    base: Path,
    plan: EvidencePlan,
    computing: tuple[BackendChoice, DTypeChoice, int | None],
) -> dict[str, Any]:
    """Measure what was made beside its base and move it to its place; what vivace.json says.

    Args:
        computing: backend, dtype and threads.
    """
    from vivace.optimize.evidence import Where, evidence

    with progress("Measuring") as report:
        found = evidence(base, made.artefact.folder, plan, Where(*computing, notice), report)
    about = {**made.about, "evidence": found}
    made.artefact.describe(about)
    made.artefact.publish()
    return about


def show(out: Path, about: Mapping[str, Any], json: bool) -> None:
    if json:
        print_json({"folder": str(out), **about})
    else:
        print_evidence(out, about["evidence"])


def print_evidence(out: Path, found: Mapping[str, Any]) -> None:
    """Sizes, then a table of the figures of quality; of a nested model both of its precisions."""
    _print_figures(str(out), found)
    if "four_bits" in found:
        _print_figures(f"{out} with --weight-bits 4", found["four_bits"])


def _print_figures(title: str, found: Mapping[str, Any]) -> None:
    size = found["size"]
    print(
        f"{title}: {size['bytes'] / 2**20:,.1f} MiB of {size['base_bytes'] / 2**20:,.1f} MiB, "
        f"{size['bits_per_weight']:.2f} bits per weight"
    )
    rows = [("", "value", "95% from", "to")]
    for name, figure in found.get("figures", {}).items():
        cells = (readable(figure[key]) for key in ("value", "low", "high"))
        rows.append((name.replace("_", " "), *cells))
    if len(rows) > 1:
        print_table(rows)
