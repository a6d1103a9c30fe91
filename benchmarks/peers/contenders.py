"""Who is compared: one line each, in groups whose models fit into memory together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Contender:
    """One engine with one format.

    Attributes:
        name: as in the tables.
        peer: a key of environments.PEERS.
        kind: which of our formats it stands beside: "int4", "int8" or "bfloat16".
        model: "safetensors" or a key of models.RECIPES.
        format: what its worker is told beyond the model.
        no_amx_variables: of its process, where AMX is refused.
    """

    name: str
    peer: str
    kind: str
    model: str
    format: str = "bfloat16"
    no_amx_variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def worker(self) -> str:
        return f"{self.peer.replace('.', '_')}_worker.py"

    @property
    def is_ours(self) -> bool:
        return self.peer == "vivace"


ONEDNN = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}

# The head is int8 by default, and the embedding, of which a token reads one row, bfloat16.
OURS = (("int4-g128", "int4"), ("int4-g32", "int4"), ("int8", "int8"))
QUANTIZED = (
    *(Contender(f"vivace {name}", "vivace", kind, "safetensors", name) for name, kind in OURS),
    Contender("llama.cpp Q4_0", "llama.cpp", "int4", "q4_0.gguf"),
    Contender("llama.cpp Q8_0", "llama.cpp", "int8", "q8_0.gguf"),
    Contender("OpenVINO int4", "openvino", "int4", "openvino-int4", "default"),
    Contender("OpenVINO int4, a8", "openvino", "int4", "openvino-int4", "a8"),
    Contender("OpenVINO int8", "openvino", "int8", "openvino-int8", "default"),
    Contender("OpenVINO int8, a8", "openvino", "int8", "openvino-int8", "a8"),
    Contender("vLLM W8A8", "vllm", "int8", "w8a8", no_amx_variables=ONEDNN),
    Contender("vLLM int4", "vllm", "int4", "w4a16", no_amx_variables=ONEDNN),
    Contender("ONNX Runtime int4", "onnxruntime", "int4", "onnx-int4", "int4"),
)
BFLOAT16 = (
    Contender("vivace bfloat16", "vivace", "bfloat16", "safetensors"),
    Contender("llama.cpp BF16", "llama.cpp", "bfloat16", "bf16.gguf"),
    Contender("vLLM bfloat16", "vllm", "bfloat16", "safetensors", no_amx_variables=ONEDNN),
    Contender(
        "Transformers bfloat16",
        "transformers",
        "bfloat16",
        "safetensors",
        no_amx_variables=ONEDNN,
    ),
)
# One group for each kind: more than that does not fit into 24 GiB at once.
GROUPS = (
    tuple(one for one in QUANTIZED if one.kind == "int4"),
    tuple(one for one in QUANTIZED if one.kind == "int8"),
    BFLOAT16,
)
CONTENDERS = {contender.name: contender for group in GROUPS for contender in group}
