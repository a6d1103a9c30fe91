"""`vivace quantize`: a smaller checkpoint, and what it lost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vivace.cli.bench_output import print_table, readable
from vivace.cli.console import notice, print_json, progress
from vivace.cli.flags import JsonFlag, flags
from vivace.core.config import BackendChoice, DTypeChoice
from vivace.core.errors import UsageError
from vivace.optimize.calibrate import CalibrationPlan
from vivace.optimize.evidence import EvidencePlan

if TYPE_CHECKING:
    from vivace.optimize.calibrate import TokenIds

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A folder, a .gguf file or a hub id.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.")]


@dataclass(frozen=True)
class How:
    """Attributes:
    scheme: for all layers (int8, int4-g128, int3-g64-zp ...), and exceptions: layers.0.*=int8.
    method: rtn, hqq, gptq, awq, awq-gptq, smoothquant or smoothquant-gptq.
    calibration: a file of UTF-8 text; None is Python's standard library, less what is held out.
    """

    scheme: str = "int4-g128"
    method: str = "gptq"
    calibration: Path | None = None


@dataclass(frozen=True)
class Machine:
    """Attributes:
    backend: what computes.
    dtype: what is computed in; auto is what the model is stored in.
    threads: None is all cores.
    """

    backend: BackendChoice = "auto"
    dtype: DTypeChoice = "auto"
    threads: int | None = None


@flags
def quantize(
    model: Model,
    out: Out,
    how: How,
    calibration: CalibrationPlan,
    evidence: EvidencePlan,
    machine: Machine,
    json: JsonFlag = False,
) -> None:
    """Write MODEL in fewer bits to the folder OUT, with what it lost in OUT/vivace.json."""
    from vivace.optimize import evidence as measuring
    from vivace.optimize.quantize.run import quantize as run

    job = _job(model, out, how, calibration, machine)
    with progress("Quantizing") as report:
        done = run(job, report)
    where = measuring.Where(machine.backend, machine.dtype, machine.threads, notice)
    with progress("Measuring") as report:
        found = measuring.evidence(job.folder, done.artefact.folder, evidence, where, report)
    about = {**done.about, "evidence": found}
    done.artefact.describe(about)
    done.artefact.publish()
    _show(out, about, json)


def _job(model: str, out: Path, how: How, plan: CalibrationPlan, machine: Machine) -> Any:
    from vivace.core.config import EngineConfig
    from vivace.engine.backends import Wanted, choose_backend
    from vivace.formats.checkpoint import open_checkpoint
    from vivace.formats.hub import resolve_model
    from vivace.hardware.machine import detect
    from vivace.optimize.quantize.methods import method_named
    from vivace.optimize.quantize.run import Job

    method = method_named(how.method)
    folder = resolve_model(model, notice)
    if not folder.is_dir():
        raise UsageError("A GGUF file cannot be quantized yet; give the folder it was made from.")
    config = EngineConfig(
        str(folder), machine.backend, machine.dtype, threads=machine.threads, packed_cache=False
    )
    threads = machine.threads or detect().cores
    backend = choose_backend(Wanted(config, open_checkpoint(folder), threads, notice))
    runs = _runs(folder, how.calibration, plan) if method.reads_text else ()
    return Job(model, folder, out, how.scheme, how.method, backend, runs)


def _runs(folder: Path, path: Path | None, plan: CalibrationPlan) -> tuple[TokenIds, ...]:
    from vivace.evaluate.corpus import text_file
    from vivace.optimize.calibrate import default_texts, draw
    from vivace.text.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(folder)
    if tokenizer is None:
        raise UsageError("The model has no tokenizer to read text with; take --method rtn or hqq.")
    given = None if path is None else text_file(path).text
    texts = default_texts() if given is None else [lambda: given]
    return tuple(draw(texts, tokenizer.encode, plan))


def _show(out: Path, about: dict[str, Any], json: bool) -> None:
    if json:
        print_json({"folder": str(out), **about})
        return
    found = about["evidence"]
    size = found["size"]
    print(
        f"{out}: {size['bytes'] / 2**20:,.1f} MiB of {size['base_bytes'] / 2**20:,.1f} MiB, "
        f"{size['bits_per_weight']:.2f} bits per weight"
    )
    rows = [("", "value", "95% from", "to")]
    for name, figure in found.get("figures", {}).items():
        cells = (readable(figure[key]) for key in ("value", "low", "high"))
        rows.append((name.replace("_", " "), *cells))
    if len(rows) > 1:
        print_table(rows)
