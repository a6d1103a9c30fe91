"""Training through the one decoder: gradients are those of the oracle's own function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from safetensors.numpy import save_file  # noqa: E402

from vivace.backends.protocol import Backend, Batch, BatchLimits  # noqa: E402
from vivace.backends.reference import ReferenceBackend  # noqa: E402
from vivace.backends.torch import TorchBackend  # noqa: E402
from vivace.formats.checkpoint import open_checkpoint  # noqa: E402
from vivace.models.loader import load_decoder, model_spec, tensor_shapes  # noqa: E402

pytestmark = pytest.mark.oracle

CONFIG: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-6,
    "rope_theta": 100.0,
}
LLAMA = CONFIG | {"model_type": "llama", "tie_word_embeddings": True}
# An offset on the stored gains, windows, caps, norms after the blocks: all must stay in the graph.
GEMMA = CONFIG | {
    "model_type": "gemma2",
    "sliding_window": 3,
    "query_pre_attn_scalar": 6,
    "attn_logit_softcapping": 4.0,
    "final_logit_softcapping": 3.0,
    "hidden_activation": "gelu_pytorch_tanh",
}
MIXTRAL = CONFIG | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}

Weights = dict[str, NDArray[np.float32]]


def random_weights(config: dict[str, Any]) -> Weights:
    rng = np.random.default_rng(0)
    return {
        name: (rng.standard_normal(shape) * shape[-1] ** -0.5).astype(np.float32)
        for name, shape in tensor_shapes(model_spec(config)).items()
    }


def logits(config: dict[str, Any], weights: Weights, folder: Path, backend: Backend) -> Any:
    """[T, vocab] of two sequences of 7."""
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    decoder = load_decoder(open_checkpoint(folder), backend)
    rows = np.arange(14, dtype=np.int32)
    batch = Batch(
        token_ids=rows * 17 % 61,
        positions=rows % 7,
        query_starts=np.asarray([0, 7, 14], np.int32),
        context_lens=np.asarray([7, 7], np.int32),
        block_tables=(),
        logit_rows=rows,
    )
    return backend.compile(decoder.logits, (), BatchLimits(14, 2, 14)).run(batch)


@pytest.mark.parametrize("config", [LLAMA, GEMMA, MIXTRAL], ids=lambda c: c["model_type"])
def test_gradients_are_the_derivatives_of_the_oracle(
    config: dict[str, Any], tmp_path: Path
) -> None:
    weights = random_weights(config)
    rng = np.random.default_rng(1)
    chosen = rng.standard_normal((14, 61)).astype(np.float32)
    backend = TorchBackend("float32", trainable=True)
    (logits(config, weights, tmp_path, backend) * torch.tensor(chosen)).sum().backward()

    def value(moved: Weights) -> float:
        result = logits(config, moved, tmp_path / "moved", ReferenceBackend())
        return float((result.astype(np.float64) * chosen).sum())

    assert backend.parameters.keys() == weights.keys()
    for name, parameter in backend.parameters.items():
        gradient = parameter.grad.numpy()
        direction = gradient / np.linalg.norm(gradient)
        ahead, behind = (weights | {name: weights[name] + e * direction} for e in (5e-3, -5e-3))
        slope = (value(ahead) - value(behind)) / 1e-2
        assert slope == pytest.approx(np.linalg.norm(gradient), rel=2e-2), name


def test_tied_weights_are_one_parameter(tmp_path: Path) -> None:
    backend = TorchBackend("float32", trainable=True)
    result = logits(LLAMA, random_weights(LLAMA), tmp_path, backend)
    assert "lm_head.weight" not in backend.parameters
    table = backend.parameters["model.embed_tokens.weight"]
    result[:, 60].sum().backward()
    assert table.grad is not None
    # Row 60 is no input token, so only the head can have reached it; row 17 is an input.
    assert bool(table.grad[60].any())
    assert bool(table.grad[17].any())


def test_bfloat16_keeps_float32_masters(tmp_path: Path) -> None:
    backend = TorchBackend("bfloat16", trainable=True)
    weights = random_weights(LLAMA)
    logits(LLAMA, weights, tmp_path, backend).sum().backward()
    for name, parameter in backend.parameters.items():
        assert parameter.dtype == torch.float32
        assert parameter.grad.dtype == torch.float32
        np.testing.assert_array_equal(parameter.detach().numpy(), weights[name])


def test_without_training_nothing_is_recorded(tmp_path: Path) -> None:
    backend = TorchBackend("float32")
    assert not logits(LLAMA, random_weights(LLAMA), tmp_path, backend).requires_grad
    assert backend.parameters == {}
