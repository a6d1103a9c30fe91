"""A model as it is stored: a folder in the Hugging Face layout (config.json, safetensors,
generation_config.json), or a GGUF file under the names of one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from vivace.core.config import WeightBits
from vivace.core.errors import CheckpointError, RequestError, UsageError
from vivace.core.kinds import is_integer
from vivace.core.request import Pooling
from vivace.core.sampling import SamplingParams
from vivace.formats.gguf.blocks import QUANTIZED
from vivace.formats.gguf.checkpoint import is_gguf, open_gguf
from vivace.formats.qtensor import QTensor
from vivace.formats.quantized.checkpoint import matrices_of
from vivace.formats.quantized.config import method_of
from vivace.formats.quantized.matrices import TYPES as QUANTIZED_BY_OTHERS
from vivace.formats.quantized.nested import FINER_INDEX, with_finer
from vivace.formats.safetensors import Entry, SafetensorsFile

StoredDType = Literal["float32", "bfloat16", "float16"]

_CONFIG_FILE = "config.json"
_GENERATION_FILE = "generation_config.json"
ARTEFACT_FILE = "vivace.json"
_POOLING_FILE = Path("1_Pooling", "config.json")
_POOLINGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}
_SINGLE_FILE = "model.safetensors"
_INDEX_FILE = "model.safetensors.index.json"
_DTYPE_NAMES: dict[str, StoredDType] = {
    "F32": "float32",
    "BF16": "bfloat16",
    "F16": "float16",
    **dict.fromkeys((*QUANTIZED, *QUANTIZED_BY_OTHERS), "bfloat16"),
}
READABLE = tuple(_DTYPE_NAMES)  # types that tensors may be stored in
_SAMPLING_KEYS = ("repetition_penalty", "temperature", "top_k", "top_p", "min_p")


class TensorFile(Protocol):
    """One file that tensors stand in, memory-mapped."""

    @property
    def path(self) -> Path: ...

    def entry(self, name: str) -> Entry: ...

    def tensor(self, name: str) -> QTensor:
        """Raises CheckpointError for a type that cannot be read."""
        ...

    def release(self) -> None: ...


class Tensors:
    """Every tensor of a checkpoint by name, memory-mapped."""

    def __init__(self, files: Mapping[str, TensorFile]) -> None:
        self._files = files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def shape(self, name: str) -> tuple[int, ...]:
        return self._files[name].entry(name).shape

    def dtype(self, name: str) -> str:
        """The stored type, in its format's words: "F32", "BF16", "Q4_K"."""
        return self._files[name].entry(name).dtype

    def nbytes(self, name: str) -> int:
        return self._files[name].entry(name).nbytes

    def get(self, name: str) -> QTensor:
        return self._files[name].tensor(name)

    @property
    def paths(self) -> list[Path]:
        """The files that they stand in."""
        return sorted({file.path for file in self._files.values()})

    def release(self) -> None:
        """Take what was read out of this process' resident memory; views stay valid."""
        for file in set(self._files.values()):
            file.release()


@dataclass(frozen=True)
class Checkpoint:
    """An opened model.

    Attributes:
        folder: the folder, or the GGUF file.
        config: config.json, without how the tensors were quantized where they are read so.
        generation_config: generation_config.json, or empty.
    """

    folder: Path
    config: Mapping[str, Any]
    generation_config: Mapping[str, Any]
    tensors: Tensors

    @property
    def dtype(self) -> StoredDType:
        """The float type that most of its bytes are in, or are to be computed in."""
        sizes: Counter[StoredDType] = Counter()
        for name in self.tensors:
            dtype = _DTYPE_NAMES.get(self.tensors.dtype(name))
            if dtype is not None:
                sizes[dtype] += self.tensors.nbytes(name)
        return max(_DTYPE_NAMES.values(), key=lambda dtype: sizes[dtype])


def open_checkpoint(folder: Path, weight_bits: WeightBits | None = None) -> Checkpoint:
    """Read the configurations and the tensors' headers; no weight is read.

    Args:
        folder: a folder, or a GGUF file.
        weight_bits: which of its precisions a nested checkpoint is read in; None is the finest.

    Raises:
        CheckpointError: it is not a checkpoint, or a file is missing or damaged.
        UsageError: a precision is chosen of a checkpoint that has but one.
    """
    folder = Path(folder)
    nested = (folder / FINER_INDEX).is_file()
    if weight_bits is not None and not nested:
        raise UsageError(f"{folder} holds one precision only; leave weight_bits out.")
    if is_gguf(folder):
        parts = open_gguf(folder)
        tensors = Tensors(dict.fromkeys(parts.tensors, parts.tensors))
        return Checkpoint(folder, parts.config, parts.generation_config, tensors)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; give the folder of a checkpoint.")
    config_path = folder / _CONFIG_FILE
    if not config_path.is_file():
        raise CheckpointError(f"{folder} has no config.json; it is not a Hugging Face checkpoint.")
    config, generation = _read_json(config_path), _read_if_there(folder / _GENERATION_FILE)
    files = _open_files(folder)
    if method_of(config) is None:
        return Checkpoint(folder, config, generation, Tensors(files))
    artefact = _read_if_there(folder / ARTEFACT_FILE)
    activation_bits = artefact.get("activation_bits")
    matrices: dict[str, TensorFile] = {**matrices_of(files, config, activation_bits)}
    if nested and weight_bits != 4:
        finer = matrices_of(_open_shards(folder / FINER_INDEX), config, activation_bits)
        matrices.update(with_finer(matrices, finer))
    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    return Checkpoint(folder, plain, generation, Tensors(matrices))


def end_token_ids(checkpoint: Checkpoint) -> tuple[int, ...]:
    """The tokens that end an answer: generation_config.json's, else config.json's.

    Raises:
        CheckpointError: they are neither a token id nor a list of them.
    """
    config = checkpoint.config
    sources = (
        (_GENERATION_FILE, checkpoint.generation_config),
        (_CONFIG_FILE, config),
        (_CONFIG_FILE, config.get("text_config")),
    )
    for file, source in sources:
        given = source.get("eos_token_id") if isinstance(source, Mapping) else None
        if given is None:
            continue
        ids = given if isinstance(given, list) else [given]
        if not all(map(is_integer, ids)):
            raise CheckpointError(
                f"eos_token_id in {checkpoint.folder / file} must be a token id or a list of "
                f"them, got {given!r}."
            )
        return tuple(ids)
    return ()


def sampling_defaults(checkpoint: Checkpoint) -> SamplingParams:
    """What generation_config.json suggests, over our own defaults (as vLLM takes it).

    Raises:
        CheckpointError: it suggests what is no valid value.
    """
    generation = checkpoint.generation_config
    defaults = {key: generation[key] for key in _SAMPLING_KEYS if generation.get(key) is not None}
    if generation.get("max_new_tokens") is not None:
        defaults["max_tokens"] = generation["max_new_tokens"]
    try:
        return SamplingParams(**defaults)
    except RequestError as error:
        raise CheckpointError(f"In {checkpoint.folder / _GENERATION_FILE}, {error}") from error


def default_pooling(checkpoint: Checkpoint) -> Pooling:
    """How embeddings are made, by Sentence Transformers' file of it; the mean where there is none.

    Raises:
        CheckpointError: it asks for a pooling that is not supported.
    """
    path = checkpoint.folder / _POOLING_FILE
    if not path.is_file():
        return "mean"
    settings = _read_json(path).items()
    modes = [name for name, on in settings if name.startswith("pooling_mode_") and on is True]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise CheckpointError(f"{path} must ask for one of {' and '.join(_POOLINGS)}.")
    return _POOLINGS[modes[0]]


def _read_if_there(path: Path) -> dict[str, Any]:
    return _read_json(path) if path.is_file() else {}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object.")
    return value


def _open_files(folder: Path) -> dict[str, SafetensorsFile]:
    if (folder / _SINGLE_FILE).is_file():
        file = SafetensorsFile(folder / _SINGLE_FILE)
        return dict.fromkeys(file, file)
    if (folder / _INDEX_FILE).is_file():
        return _open_shards(folder / _INDEX_FILE)
    if any(folder.glob("*.bin")):
        raise CheckpointError(
            f"{folder} holds only pickled .bin weights; convert them with Transformers: "
            "from_pretrained, then save_pretrained."
        )
    raise CheckpointError(f"{folder} has neither {_SINGLE_FILE} nor {_INDEX_FILE}.")


def _open_shards(index: Path) -> dict[str, SafetensorsFile]:
    folder = index.parent
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(
        isinstance(shard, str) for shard in weight_map.values()
    ):
        raise CheckpointError(f"{index} has no weight_map of names to files.")
    shards = sorted(set(weight_map.values()))
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder} lacks {len(missing)} of {len(shards)} shards, first {missing[0]}; "
            "download them."
        )
    files = {shard: SafetensorsFile(folder / shard) for shard in shards}
    absent = [name for name, shard in weight_map.items() if name not in files[shard]]
    if absent:
        raise CheckpointError(
            f"{folder / weight_map[absent[0]]} lacks tensor {absent[0]}, which {index.name} "
            "places there; download it again."
        )
    return {name: files[shard] for name, shard in weight_map.items()}
