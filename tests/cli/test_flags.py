"""Flags made from dataclasses: names, defaults, help and limits come from the fields."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pytest
import typer
from typer.testing import CliRunner

from vivace.cli.flags import flags, parse_bytes
from vivace.core.config import EngineConfig

pytestmark = pytest.mark.tiny


@dataclass(frozen=True)
class Plan:
    """A plan.

    Attributes:
        num_iters: how often,
            counted from one.
        seed: where chance begins.
    """

    num_iters: int = 3
    seed: int = 7


def invoke(*arguments: str) -> tuple[int, str, list[object]]:
    app, seen = typer.Typer(rich_markup_mode=None), []

    @app.command()
    @flags
    def command(config: EngineConfig, plan: Plan, seed: int = 1) -> None:
        seen.extend([config, plan, seed])

    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.output, seen


def test_defaults_are_those_of_the_dataclasses() -> None:
    assert invoke() == (0, "", [EngineConfig(), Plan(), 1])


def test_every_engine_field_can_be_set() -> None:
    line = (
        "folder --backend reference --dtype float32 --max-model-len 99 --threads 2 "
        "--kv-memory 1.5GiB --max-num-seqs 3 --max-num-batched-tokens 64 --no-prefix-caching "
        "--max-prefill-chunk 7 --max-prefill-beside-decodes 9 --quantize int8 --no-packed-cache "
        "--weight-bits 4 "
        "--target-itl-ms 40.5 --target-ttft-ms 900 --max-wait-seconds 9.5 --tenant-weights a=2 "
        "--max-queued-requests 5 --max-queued-tokens 900 "
        "--kv-host 1GiB --kv-disk 2GiB --kv-disk-folder kept "
        "--kv-cache-dtype int8 --kv-eviction sinks:64 --num-iters 5 --seed 9 "
        "--memory 9GiB --enable-lora --max-loras 2 --max-lora-rank 8 --lora-modules sql=folder"
    )
    code, _, (config, plan, seed) = invoke(*line.split())
    assert code == 0
    set_by_flags = {f.name for f in fields(EngineConfig)} - {"seed"}
    default = EngineConfig()
    assert all(getattr(config, name) != getattr(default, name) for name in set_by_flags)
    assert isinstance(config, EngineConfig)
    assert (config.kv_memory_bytes, config.weight_bits) == (3 << 29, 4)
    assert (config.kv_host_bytes, config.kv_disk_bytes) == (1 << 30, 2 << 30)
    assert (plan, seed) == (Plan(num_iters=5), 9)  # the command's own --seed hides the fields'


@pytest.mark.parametrize(
    "arguments",
    ["--threads 0", "--num-iters 0", "--backend gpu", "--kv-memory lots", "--unknown", "a b"],
)
def test_wrong_usage_is_refused(arguments: str) -> None:
    code, output, seen = invoke(*arguments.split())
    assert (code, seen) == (2, [])
    assert "Error:" in output


def test_help_comes_from_the_docstrings() -> None:
    _, output, _ = invoke("--help")
    assert "How often, counted from one. [default: 3; x>=1]" in " ".join(output.split())
    assert "left out: the bundled vivace-mini" in " ".join(output.split())
    assert "Compute threads of the cpu backend" in " ".join(output.split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1048576", 1 << 20),
        ("512M", 1 << 29),
        ("2GiB", 2 << 30),
        ("0.5 gb", 1 << 29),
        ("7KiB", 7168),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "-1", "0", "2XB", "GiB", "1e9"])
def test_wrong_sizes(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_bytes(text)
