"""Where adapters stand in models of every shape: as weights that they were merged into, by
Transformers."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from decoder_runs import logits  # noqa: E402
from family_cases import CASES, LENGTH, Case  # noqa: E402
from oracle import Oracle, save_checkpoint  # noqa: E402

from tests.models.peft_files import write_adapter  # noqa: E402
from vivace.backends.low_rank import AdapterRoom  # noqa: E402
from vivace.backends.reference import ReferenceBackend  # noqa: E402
from vivace.core.errors import CheckpointError  # noqa: E402
from vivace.formats.checkpoint import open_checkpoint  # noqa: E402
from vivace.formats.peft import open_adapter  # noqa: E402
from vivace.models.adapters import adapter_parts, set_adapter  # noqa: E402
from vivace.models.loader import load_decoder, model_spec  # noqa: E402

pytestmark = pytest.mark.oracle

TOKENS = random.Random(3).choices(range(3, 67), k=LENGTH)
ROOM = AdapterRoom(slots=2, max_rank=4)
FIRST_CASES = list({case.family: case for case in reversed(CASES)}.values())


NAMES = re.compile(
    r".*layers?\.\d+\.(self_attn\.(q|k|v|o|qkv)_proj|mlp\.(gate|up|down|gate_up)_proj)"
    r"|.*h\.\d+\.(attn\.c_(attn|proj)|mlp\.c_(fc|proj))"
)


def linears(model: Any) -> dict[str, Any]:
    """Of the language model, those of attention and dense MLPs."""
    return {
        name: module
        for name, module in model.named_modules()
        if NAMES.fullmatch(name) and "vision" not in name
    }


def shape_of(module: Any) -> tuple[int, int]:
    """[out, in]."""
    rows, columns = module.weight.shape
    return (columns, rows) if type(module).__name__ == "Conv1D" else (rows, columns)


@pytest.mark.parametrize("case", FIRST_CASES, ids=lambda case: case.family)
def test_an_adapter_is_as_good_as_merged(case: Case, tmp_path: Path) -> None:
    save_checkpoint(case, tmp_path / "model")
    oracle = Oracle(case, tmp_path / "model")
    modules = linears(oracle.model)
    shapes = {name: shape_of(module) for name, module in modules.items()}
    added = write_adapter(tmp_path / "lora", shapes, rank=4)
    backend = ReferenceBackend()
    checkpoint = open_checkpoint(tmp_path / "model")
    spec = model_spec(checkpoint.config, LENGTH)
    decoder = load_decoder(checkpoint, backend, spec, adapters=ROOM)
    parts = adapter_parts(decoder.spec, open_adapter(tmp_path / "lora"), ROOM)
    set_adapter(backend, decoder, 2, parts)
    plain = logits(decoder, backend, TOKENS)
    found = logits(decoder, backend, TOKENS, slot=2)
    for name, module in modules.items():
        product = torch.tensor(added[name])
        with torch.no_grad():
            module.weight += product.T if type(module).__name__ == "Conv1D" else product
    expected = oracle.logits(TOKENS)
    scale = np.abs(expected).max()
    assert np.abs(found - expected).max() / scale < 1e-4
    assert np.abs(plain - expected).max() / scale > 1e-2


@pytest.mark.parametrize(
    ("modules", "rank", "message"),
    [
        ({"lm_head": (67, 36)}, 4, "lm_head, which cannot be"),
        ({"model.layers.3.self_attn.q_proj": (36, 36)}, 4, r"layers\.3"),
        ({"model.layers.0.self_attn.q_proj": (35, 36)}, 4, "another model"),
        ({"model.layers.0.self_attn.k_proj": (36, 36)}, 4, "another model"),
        ({"model.layers.0.self_attn.q_proj": (36, 36)}, 5, "max_lora_rank"),
    ],
)
def test_what_the_model_does_not_have_is_refused(
    tmp_path: Path, modules: dict[str, tuple[int, int]], rank: int, message: str
) -> None:
    case = next(case for case in CASES if case.family == "llama")
    save_checkpoint(case, tmp_path / "model")
    write_adapter(tmp_path / "lora", modules, rank)
    spec = model_spec(open_checkpoint(tmp_path / "model").config)
    with pytest.raises(CheckpointError, match=message):
        adapter_parts(spec, open_adapter(tmp_path / "lora"), ROOM)
