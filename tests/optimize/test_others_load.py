"""What `quantize` writes, loaded by Transformers with compressed-tensors: the same numbers."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from tests.optimize.models import job, write_model
from vivace import LLM
from vivace.formats.checkpoint import open_checkpoint
from vivace.optimize.quantize.run import quantize

pytestmark = pytest.mark.oracle

TOKENS = np.random.default_rng(9).integers(1, 199, 40).tolist()


@pytest.fixture(autouse=True)
def _installed() -> None:
    pytest.importorskip("compressed_tensors")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scheme", ["int4-g32-a16", "int4-g32-zp-a16", "int3-g32", "int8", "mixed"])
def test_transformers_sees_the_same_model(scheme: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, CompressedTensorsConfig

    folder, out = write_model(tmp_path / "model"), tmp_path / "out"
    asked = "int4-g32-a16,*.down=int8,layers.1.*.out=none" if scheme == "mixed" else scheme
    quantize(job(folder, out, asked, "gptq")).artefact.publish()
    # Transformers 5.23 takes packed zero points for misshapen ones unless it dequantizes.
    how = (
        {"quantization_config": CompressedTensorsConfig(dequantize=True)} if "zp" in scheme else {}
    )
    theirs = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, **how).eval()
    with torch.no_grad():
        logits = theirs(torch.tensor([TOKENS])).logits[0].numpy()
    ours = LLM(str(out), backend="reference", dtype="float32", notify=lambda _: None)
    expected = ours.logits(TOKENS)
    error = np.sqrt(np.square(logits - expected).mean() / np.square(expected).mean())
    assert error < 0.02  # ours rounds activations: to bfloat16 beside int4, to int8 beside int8
    tensors = open_checkpoint(out).tensors
    for name, module in theirs.named_modules():
        if "_proj" in name and hasattr(module, "weight") and module.weight.is_floating_point():
            weights = tensors.get(f"{name}.weight").to_float32()
            found = module.weight.detach().float().numpy()
            narrow = weights.astype(ml_dtypes.bfloat16).astype(np.float32)
            assert ((found == weights) | (found == narrow)).all()
