"""From a checkpoint to a decoder on a backend: everything is checked before a weight is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from vivace.backends.low_rank import AdapterRoom
from vivace.backends.protocol import (
    Backend,
    Experts,
    Linear,
    LinearForm,
    Norm,
    RotaryTable,
    Vector,
)
from vivace.core.errors import CheckpointError, UsageError
from vivace.core.sight import ALL, Sight
from vivace.formats.checkpoint import READABLE, Checkpoint, Tensors
from vivace.formats.policy import UNQUANTIZED, PrecisionPolicy
from vivace.formats.qtensor import QTensor, Scheme
from vivace.models.config import Config
from vivace.models.decoder import (
    AttentionWeights,
    Decoder,
    DecoderWeights,
    DenseWeights,
    LayerWeights,
    MLPWeights,
)
from vivace.models.families import FAMILIES
from vivace.models.family import Family
from vivace.models.spec import ExpertsSpec, LayerSpec, MLPSpec, ModelSpec
from vivace.models.weights import Plan, Root, is_adaptable, weight_plan

Progress = Callable[[int, int], None]


def model_spec(
    config: Mapping[str, Any], max_model_len: int | None = None, sight: Sight = ALL
) -> ModelSpec:
    """What a config.json describes. Without `max_model_len`, the model's own limit.

    Args:
        sight: what rows of a request see that asks for nothing else. If that is not all,
            `max_model_len` may be longer than the model was trained for.

    Raises:
        CheckpointError: the model is unknown, or its config lacks or mistakes something.
        UsageError: `max_model_len` is not positive, or it or the sight is past the trained
            positions.
    """
    family = _family(config)
    values = {**family.defaults, **family.normalize(config)}
    for quantized in (config, values):
        quantization = Config(quantized, 0).mapping("quantization_config")
        if quantization:
            method = quantization.get("quant_method", "unknown")
            raise CheckpointError(
                f"The checkpoint is quantized ({method}), which is not supported; "
                "use the original weights."
            )
    own = Config(values, 0).integer("max_position_embeddings")
    max_model_len = own if max_model_len is None else max_model_len
    if max_model_len < 1:
        raise UsageError(f"max_model_len must be at least 1, got {max_model_len}.")
    context_len = None if sight.reach is None else min(max_model_len, own)
    if sight.reach is not None and own < sight.reach and own < max_model_len:
        raise UsageError(
            f"kv_eviction {sight} keeps {sight.reach} tokens, but the model was trained for {own} "
            "positions; give a smaller window."
        )
    return family.spec(Config(values, max_model_len, context_len))


def tensor_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """The stored shape of every tensor of such a checkpoint, under its usual name."""
    layout = FAMILIES[spec.family].layout
    plan = weight_plan(spec, layout, layout.roots[0])
    return {source.name: source.shape for sources in plan.values() for source in sources}


def role_shapes(spec: ModelSpec) -> dict[str, list[tuple[int, ...]]]:
    """The shapes of the parts of each role, matrices as [out, in]; a tied head is one more."""
    layout = FAMILIES[spec.family].layout
    plan = weight_plan(spec, layout, layout.roots[0])
    shapes = {role: [source.view_shape for source in sources] for role, sources in plan.items()}
    return {"head": shapes["embedding"], **shapes}


def role_schemes(spec: ModelSpec, policy: PrecisionPolicy) -> dict[str, Scheme]:
    """What is rounded under a policy, and to which scheme.

    Raises:
        UsageError: a rule of the policy names nothing that can be rounded, or some of the experts
            of a layer.
    """
    roles = [role for role, shapes in role_shapes(spec).items() if _roundable(role, shapes)]
    policy.check(roles)
    found = ((role, policy.scheme_of(role)) for role in roles)
    schemes = {role: scheme for role, scheme in found if scheme is not None}
    for i, layer in enumerate(spec.layers):
        if isinstance(layer.mlp, ExpertsSpec):
            _check_experts(f"layers.{i}.mlp.experts", layer.mlp.num_experts, schemes)
    return schemes


def load_decoder(
    checkpoint: Checkpoint,
    backend: Backend,
    spec: ModelSpec | None = None,
    progress: Progress | None = None,
    policy: PrecisionPolicy = UNQUANTIZED,
    adapters: AdapterRoom | None = None,
) -> Decoder:
    """Check every name, shape and dtype, then hand the weights to the backend one by one.

    Args:
        spec: of the checkpoint's configuration; None is at its own length.
        progress: is told how many of the tensors are done.
        adapters: room for them beside every linear that can have them.

    Raises:
        CheckpointError: as `model_spec`, or a tensor is missing, misshapen or of a wrong dtype.
        UsageError: the policy names what the model does not have.
    """
    spec = spec or model_spec(checkpoint.config)
    schemes = role_schemes(spec, policy)
    plan = checked_plan(spec, checkpoint)
    keeping = Keeping(schemes, adapters)
    reader = WeightReader(plan, checkpoint.tensors, backend, spec, keeping, progress)
    return Decoder(spec, reader.decoder())


def _family(config: Mapping[str, Any]) -> Family:
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise CheckpointError(
            f"model_type {model_type!r} in config.json is not supported; "
            f"known are {', '.join(FAMILIES)}."
        )
    return FAMILIES[model_type]


def checked_plan(spec: ModelSpec, checkpoint: Checkpoint) -> Plan:
    """Where the weights stand, each of which the checkpoint has.

    Raises:
        CheckpointError: a tensor is missing, misshapen or of a wrong dtype.
    """
    layout, tensors = FAMILIES[spec.family].layout, checkpoint.tensors
    roots = [root for root in layout.roots if _has_embedding(root, layout.embedding, tensors)]
    plan = weight_plan(spec, layout, (roots or layout.roots)[0])
    sources = [source for sources in plan.values() for source in sources]
    missing = dict.fromkeys(source.name for source in sources if source.name not in tensors)
    if missing:
        raise CheckpointError(
            f"{checkpoint.folder} lacks {len(missing)} of {len(sources)} tensors, "
            f"first {next(iter(missing))}."
        )
    for source in sources:
        shape, dtype = tensors.shape(source.name), tensors.dtype(source.name)
        if shape != source.shape:
            raise CheckpointError(
                f"Tensor {source.name} has shape {list(shape)} where config.json asks for "
                f"{list(source.shape)}."
            )
        if dtype not in READABLE:
            raise CheckpointError(
                f"Tensor {source.name} has dtype {dtype}; supported are {', '.join(READABLE)}."
            )
    return plan


def _roundable(role: str, shapes: list[tuple[int, ...]]) -> bool:
    """Linears and the embedding: not vectors, routers or tables of positions."""
    return len(shapes[0]) == 2 and not role.endswith((".router", "positions"))


def _check_experts(role: str, count: int, schemes: Mapping[str, Scheme]) -> None:
    for half in ("up", "down"):
        if len({schemes.get(f"{role}.{expert}.{half}") for expert in range(count)}) > 1:
            raise UsageError(
                f"All experts of a layer share one scheme: name them together, as {role}.*=int8."
            )


def _has_embedding(root: Root, embedding: str, tensors: Tensors) -> bool:
    return f"{root.body}{embedding}.weight" in tensors


def _alike(parts: list[QTensor]) -> list[QTensor]:
    """Parts of one matrix; where not all are floats and they differ, all as floats."""
    schemes = {None if part.scheme.is_float else part.scheme for part in parts}
    if len(schemes) < 2:
        return parts
    return [QTensor.from_array(part.name, part.to_float32()) for part in parts]


class TensorSource(Protocol):
    """What weights are read from: a checkpoint's `Tensors`."""

    def get(self, name: str) -> QTensor: ...

    def release(self) -> None: ...


@dataclass(frozen=True)
class Keeping:
    """How linears are kept: their schemes by role, and the room for adapters beside them."""

    schemes: Mapping[str, Scheme] = field(default_factory=dict)
    adapters: AdapterRoom | None = None

    def form(self, role: str, gated: bool = False) -> LinearForm:
        room = self.adapters if is_adaptable(role) else None
        return LinearForm(self.schemes.get(role), gated, room)


@dataclass
class WeightReader:
    """Makes a backend's handles, role by role."""

    plan: Plan
    tensors: TensorSource
    backend: Backend
    spec: ModelSpec
    keeping: Keeping = field(default_factory=Keeping)
    progress: Progress | None = None
    done: int = 0
    total: int = field(init=False)

    def __post_init__(self) -> None:
        self.total = sum(len(sources) for sources in self.plan.values())

    def decoder(self) -> DecoderWeights:
        rotaries = [self.backend.rotary(rotary) for rotary in self.spec.rotaries]
        (table,) = self._read("embedding")
        positions = self._read("positions")
        return DecoderWeights(
            embedding=self.backend.embedding(table, self.keeping.schemes.get("embedding")),
            positions=self.backend.embedding(positions[0]) if positions else None,
            layers=tuple(self.layer(i, rotaries) for i in range(len(self.spec.layers))),
            norm=self.norm("norm"),
            head=self.backend.linear(self._read("head") or [table], form=self.keeping.form("head")),
        )

    def layer(self, index: int, rotaries: list[RotaryTable]) -> LayerWeights:
        """Its file pages are let go, or a backend that packs would double the memory."""
        role, layer = f"layers.{index}", self.spec.layers[index]
        attention = self._attention(f"{role}.attention", layer, rotaries)
        weights = LayerWeights(attention, self._mlp(f"{role}.mlp", layer.mlp))
        self.tensors.release()
        return weights

    def _attention(
        self, role: str, layer: LayerSpec, rotaries: list[RotaryTable]
    ) -> AttentionWeights:
        return AttentionWeights(
            norm=self._optional_norm(f"{role}.norm"),
            qkv=self._linear(f"{role}.qkv"),
            out=self._linear(f"{role}.out"),
            q_norm=self._optional_norm(f"{role}.q_norm"),
            k_norm=self._optional_norm(f"{role}.k_norm"),
            post_norm=self._optional_norm(f"{role}.post_norm"),
            sinks=self._vector(f"{role}.sinks"),
            rotary=None if layer.rotary is None else rotaries[layer.rotary],
        )

    def _mlp(self, role: str, mlp: MLPSpec | ExpertsSpec) -> MLPWeights:
        return MLPWeights(
            norm=self._optional_norm(f"{role}.norm"),
            body=self._experts(role, mlp)
            if isinstance(mlp, ExpertsSpec)
            else self._dense(role, mlp),
            post_norm=self._optional_norm(f"{role}.post_norm"),
        )

    def _dense(self, role: str, mlp: MLPSpec) -> DenseWeights:
        up = self._linear(f"{role}.up", mlp.activation.gated)
        return DenseWeights(up, self._linear(f"{role}.down"), mlp.activation)

    def _experts(self, role: str, mlp: ExpertsSpec) -> Experts:
        experts = [f"{role}.experts.{e}" for e in range(mlp.num_experts)]
        return Experts(
            router=self._linear(f"{role}.router"),
            up=tuple(self._linear(f"{expert}.up", mlp.activation.gated) for expert in experts),
            down=tuple(self._linear(f"{expert}.down") for expert in experts),
            activation=mlp.activation,
            top_k=mlp.top_k,
            renormalize=mlp.renormalize,
        )

    def _linear(self, role: str, gated: bool = False) -> Linear:
        parts, bias = _alike(self._read(role)), self._read(f"{role}.bias")
        return self.backend.linear(parts, bias, form=self.keeping.form(role, gated))

    def _optional_norm(self, role: str) -> Norm | None:
        return self.norm(role) if role in self.plan else None

    def norm(self, role: str) -> Norm:
        norm = self.spec.norm
        weight, bias = self._vector(role, norm.offset), self._vector(f"{role}.bias")
        return Norm(norm.kind, weight, norm.eps, bias)

    def _vector(self, role: str, offset: float = 0.0) -> Vector | None:
        tensors = self._read(role)
        return self.backend.vector(tensors[0], offset) if tensors else None

    def _read(self, role: str) -> list[QTensor]:
        """The role's tensors, mapped but not read; empty where the plan has none."""
        sources = self.plan.get(role, ())
        self.done += len(sources)
        if self.progress and sources:
            self.progress(self.done, self.total)
        return [source.view(self.tensors.get(source.name)) for source in sources]
