"""The folder that comes out: made beside its place, layer by layer, and moved there once whole.

An interrupted run leaves the folder OUT.partial, with a file for each layer that is done and no
config.json: nothing loads it, and the same command goes on from there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from vivace.core.errors import UsageError
from vivace.formats.checkpoint import ARTEFACT_FILE
from vivace.formats.qtensor import Array
from vivace.formats.quantized.nested import FINER_INDEX
from vivace.formats.safetensors import SafetensorsFile

_RECIPE_FILE = "recipe.json"
_INDEX_FILE = "model.safetensors.index.json"
_COPIED = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
)


@dataclass(frozen=True)
class PartialArtefact:
    """Attributes:
    out: where the folder will stand.
    num_shards: files of weights that it will have.
    """

    out: Path
    num_shards: int

    @property
    def folder(self) -> Path:
        return self.out.with_name(f"{self.out.name}.partial")

    def open(self, recipe: Mapping[str, Any]) -> None:
        """Begin, or go on with what a run of the same recipe left.

        Raises:
            UsageError: the place is taken.
        """
        if self.out.exists():
            raise UsageError(f"{self.out} is there already; give another folder, or remove it.")
        kept = self.folder / _RECIPE_FILE
        if kept.is_file():
            if json.loads(kept.read_text()) != recipe:
                raise UsageError(
                    f"{self.folder} is of a run with another model, scheme or method; remove it."
                )
            return
        try:
            self.folder.mkdir(parents=True)
        except FileExistsError:
            raise UsageError(f"{self.folder} is in the way; remove it.") from None
        _write_whole(kept, json.dumps(recipe))

    def has(self, shard: int) -> bool:
        return self._path(shard).is_file()

    def read(self, shard: int) -> SafetensorsFile:
        return SafetensorsFile(self._path(shard))

    def write(self, shard: int, tensors: Mapping[str, Array]) -> None:
        """A file of weights: it appears when it is whole."""
        _write_tensors(self._path(shard), tensors)

    def write_finer(self, shard: int, tensors: Mapping[str, Array]) -> None:
        """What the nested matrices of a file lack, beside it: others' loaders look only at files
        of the index, and so read the model in 4 bits. To be written first."""
        if tensors:
            _write_tensors(self._path(shard, "finer"), tensors)

    def complete(self, source: Path, config: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Write all but the weights; from now on the partial folder loads."""
        for name in _COPIED:
            if (source / name).is_file():
                shutil.copyfile(source / name, self.folder / name)
        self.describe(about)
        self._write_index(_INDEX_FILE, "model")
        self._write_index(FINER_INDEX, "finer")
        _write_whole(self.folder / "config.json", json.dumps(config, indent=1))

    def describe(self, about: Mapping[str, Any]) -> None:
        _write_whole(self.folder / ARTEFACT_FILE, json.dumps(about, indent=1))

    def publish(self) -> None:
        """Move the folder to its place."""
        (self.folder / _RECIPE_FILE).unlink()
        self.folder.rename(self.out)

    def _write_index(self, name: str, kind: str) -> None:
        """The index of the files of one kind, where there are any."""
        paths = (self._path(shard, kind) for shard in range(self.num_shards))
        files = [SafetensorsFile(path) for path in paths if path.is_file()]
        if not files:
            return
        total = sum(file.entry(tensor).nbytes for file in files for tensor in file)
        weight_map = {tensor: file.path.name for file in files for tensor in file}
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        _write_whole(self.folder / name, json.dumps(index, indent=1))

    def _path(self, shard: int, kind: str = "model") -> Path:
        return self.folder / f"{kind}-{shard + 1:05}-of-{self.num_shards:05}.safetensors"


def _write_tensors(path: Path, tensors: Mapping[str, Array]) -> None:
    passing = path.with_suffix(".part")
    contiguous = {name: _contiguous(array) for name, array in tensors.items()}
    save_file(contiguous, passing, {"format": "pt"})
    os.replace(passing, path)


def _contiguous(array: Array) -> Array:
    return array if array.flags.c_contiguous else array.copy(order="C")


def _write_whole(path: Path, text: str) -> None:
    passing = path.with_name(f"{path.name}.part")
    passing.write_text(text, encoding="utf-8")
    os.replace(passing, path)
