"""Where a decoder's weights stand in a checkpoint: one plan to check, load and export by.

A plan maps each role of the decoder ("layers.3.attention.qkv") to the stored tensors that make
it up, with their stored shapes. Biases have the role of their weight with ".bias" after it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from vivace.formats.gguf import architectures, blocks, tensors
from vivace.formats.qtensor import QTensor
from vivace.formats.quantized import layouts, matrices, words
from vivace.models.spec import ExpertsSpec, LayerSpec, MLPSpec, ModelSpec, NormSpec


@dataclass(frozen=True)
class Source:
    """A stored tensor and the view of it that is meant, taken in the order of the fields.

    Attributes:
        shape: as stored.
        expert: one index of the first dimension.
        transposed: stored [in, out].
        rows: of the outputs.
    """

    name: str
    shape: tuple[int, ...]
    expert: int | None = None
    transposed: bool = False
    rows: slice | None = None

    @property
    def view_shape(self) -> tuple[int, ...]:
        """The shape of what is meant."""
        shape = self.shape if self.expert is None else self.shape[1:]
        shape = shape[::-1] if self.transposed else shape
        return shape if self.rows is None else (len(range(shape[0])[self.rows]), *shape[1:])

    def view(self, stored: QTensor) -> QTensor:
        """Nothing is copied; a tensor that is meant whole stays itself, name and all. The name of
        a part says which part it is."""
        if self.expert is None and not self.transposed and self.rows is None:
            return stored
        array = stored.buffers["weight"]
        if self.expert is not None:
            array = array[self.expert]
        if self.transposed:
            array = array.T
        if self.rows is not None:
            array = array[self.rows]
        part = f"{self.name} (expert {self.expert}, rows {self.rows})"
        return QTensor.from_array(part, array)


Plan: TypeAlias = dict[str, tuple[Source, ...]]


@dataclass(frozen=True)
class Root:
    """Where the decoder and its head stand among a checkpoint's names."""

    body: str
    head: str


@dataclass(frozen=True)
class ExpertNames:
    """Each expert's projections by themselves; `{}` is the expert."""

    up: tuple[str, ...] = ("mlp.experts.{}.gate_proj", "mlp.experts.{}.up_proj")
    down: str = "mlp.experts.{}.down_proj"


@dataclass(frozen=True)
class StackedExperts:
    """All experts in one tensor [experts, in, out]; gate and up take turns along the outputs."""

    up: str = "mlp.experts.gate_up_proj"
    down: str = "mlp.experts.down_proj"


@dataclass(frozen=True)
class Layout:
    """How a family names its tensors; the defaults are Llama's.

    Attributes:
        roots: the places known to occur, the usual one first.
        qkv: the projections, or the one that stacks them.
        up: gate and up, or the one that stacks them.
        transposed: linears are stored [in, out].
    """

    roots: tuple[Root, ...] = (Root("model.", "lm_head"),)
    embedding: str = "embed_tokens"
    positions: str = "wpe"
    norm: str = "norm"
    layer: str = "layers.{}."
    attention_norm: str = "input_layernorm"
    attention_post_norm: str = "post_attention_layernorm"
    qkv: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    q_norm: str = "self_attn.q_norm"
    k_norm: str = "self_attn.k_norm"
    sinks: str = "self_attn.sinks"
    out: str = "self_attn.o_proj"
    mlp_norm: str = "post_attention_layernorm"
    mlp_post_norm: str = "post_feedforward_layernorm"
    up: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj")
    down: str = "mlp.down_proj"
    router: str = "mlp.gate"
    experts: ExpertNames | StackedExperts = ExpertNames()
    transposed: bool = False


_ADAPTABLE = re.compile(r"layers\.\d+\.(attention\.(qkv|out)|mlp\.(up|down))")


def is_adaptable(role: str) -> bool:
    """Whether adapters may stand beside the linear of a role: in attention and in dense MLPs."""
    return _ADAPTABLE.fullmatch(role) is not None


def cut_digest() -> str:
    """Changes with the code that cuts weights, or takes them out of blocks and words: what was made
    of them another way is stale."""
    unpacking = (architectures, blocks, tensors, layouts, matrices, words)
    files = (__file__, *(str(module.__file__) for module in unpacking))
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()


def weight_plan(spec: ModelSpec, layout: Layout, root: Root) -> Plan:
    """Every stored tensor that `spec` needs; tied embeddings have no head."""
    table = (spec.vocab_size, spec.hidden_size)
    plan: Plan = {"embedding": (Source(f"{root.body}{layout.embedding}.weight", table),)}
    if spec.learned_positions is not None:
        shape = (spec.learned_positions, spec.hidden_size)
        plan["positions"] = (Source(f"{root.body}{layout.positions}.weight", shape),)
    for i, layer in enumerate(spec.layers):
        writer = _Writer(plan, f"layers.{i}.", root.body + layout.layer.format(i), layout)
        _plan_attention(writer, spec, layer)
        _plan_mlp(writer, spec, layer.mlp)
    _Writer(plan, "", root.body, layout).norm("norm", layout.norm, spec.hidden_size, spec.norm)
    if not spec.tied_embeddings:
        plan["head"] = (Source(f"{root.head}.weight", table),)
    return plan


@dataclass(frozen=True)
class _Writer:
    """Adds roles below `role` whose tensors are named below `name`."""

    plan: Plan
    role: str
    name: str
    layout: Layout

    def vector(self, role: str, name: str, size: int) -> None:
        self.plan[self.role + role] = (Source(self.name + name, (size,)),)

    def norm(self, role: str, name: str, size: int, norm: NormSpec) -> None:
        self.vector(role, f"{name}.weight", size)
        if norm.bias:
            self.vector(f"{role}.bias", f"{name}.bias", size)

    def linear(
        self, role: str, names: Sequence[str], outputs: Sequence[int], inputs: int, bias: bool
    ) -> None:
        """One tensor per output width, or a single one that stacks them all."""
        widths = outputs if len(names) == len(outputs) else (sum(outputs),)
        transposed = self.layout.transposed
        named = [(self.name + name, width) for name, width in zip(names, widths, strict=True)]
        self.plan[self.role + role] = tuple(
            Source(
                f"{name}.weight",
                (inputs, width) if transposed else (width, inputs),
                transposed=transposed,
            )
            for name, width in named
        )
        if bias:
            self.plan[f"{self.role}{role}.bias"] = tuple(
                Source(f"{name}.bias", (width,)) for name, width in named
            )

    def stacked(
        self, role: str, name: str, shape: tuple[int, int, int], rows: tuple[slice | None, ...]
    ) -> None:
        """Each expert's linear and bias, of tensors [experts, in, out] and [experts, out]."""
        name = self.name + name
        for expert in range(shape[0]):
            prefix = f"{self.role}mlp.experts.{expert}.{role}"
            self.plan[prefix] = tuple(Source(name, shape, expert, True, part) for part in rows)
            self.plan[f"{prefix}.bias"] = tuple(
                Source(f"{name}_bias", (shape[0], shape[2]), expert, rows=part) for part in rows
            )


def _plan_attention(writer: _Writer, spec: ModelSpec, layer: LayerSpec) -> None:
    layout, attention, hidden = writer.layout, layer.attention, spec.hidden_size
    q_width = attention.num_heads * attention.head_dim
    kv_width = attention.num_kv_heads * attention.head_dim
    if spec.pre_norms:
        writer.norm("attention.norm", layout.attention_norm, hidden, spec.norm)
    widths = (q_width, kv_width, kv_width)
    writer.linear("attention.qkv", layout.qkv, widths, hidden, spec.qkv_bias)
    if spec.qk_norm != "none":
        per_head = spec.qk_norm == "head"
        q_size, k_size = (attention.head_dim,) * 2 if per_head else (q_width, kv_width)
        writer.norm("attention.q_norm", layout.q_norm, q_size, spec.norm)
        writer.norm("attention.k_norm", layout.k_norm, k_size, spec.norm)
    if layer.sinks:
        writer.vector("attention.sinks", layout.sinks, attention.num_heads)
    writer.linear("attention.out", (layout.out,), (hidden,), q_width, spec.output_bias)
    if spec.post_norms:
        writer.norm("attention.post_norm", layout.attention_post_norm, hidden, spec.norm)


def _plan_mlp(writer: _Writer, spec: ModelSpec, mlp: MLPSpec | ExpertsSpec) -> None:
    layout, hidden = writer.layout, spec.hidden_size
    if spec.pre_norms:
        writer.norm("mlp.norm", layout.mlp_norm, hidden, spec.norm)
    if isinstance(mlp, ExpertsSpec):
        _plan_experts(writer, mlp, hidden)
    else:
        inner = mlp.intermediate_size
        widths = (inner,) * (2 if mlp.activation.gated else 1)
        writer.linear("mlp.up", layout.up, widths, hidden, mlp.bias)
        writer.linear("mlp.down", (layout.down,), (hidden,), inner, mlp.bias)
    if spec.post_norms:
        writer.norm("mlp.post_norm", layout.mlp_post_norm, hidden, spec.norm)


def _plan_experts(writer: _Writer, mlp: ExpertsSpec, hidden: int) -> None:
    count, inner, names = mlp.num_experts, mlp.intermediate_size, writer.layout.experts
    writer.linear("mlp.router", (writer.layout.router,), (count,), hidden, mlp.router_bias)
    if isinstance(names, StackedExperts):
        gate_and_up = (slice(0, None, 2), slice(1, None, 2))
        writer.stacked("up", names.up, (count, hidden, 2 * inner), gate_and_up)
        writer.stacked("down", names.down, (count, inner, hidden), (None,))
        return
    for e in range(count):
        role = f"mlp.experts.{e}"
        up = [name.format(e) for name in names.up]
        writer.linear(f"{role}.up", up, (inner, inner), hidden, mlp.bias)
        writer.linear(f"{role}.down", (names.down.format(e),), (hidden,), inner, mlp.bias)
