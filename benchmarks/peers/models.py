"""The same random-weight model in each peer's format, made by the peer's own tools."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from peers.environments import PEERS, ROOT, AbsentError, run

from vivace.bench.random_model import PRESETS, tensor_shapes, write_random_model

HERE = Path(__file__).parent
FOLDER = ROOT / "build" / "random"


@dataclass(frozen=True)
class Recipe:
    """How one format is made from the Hugging Face folder.

    Attributes:
        peer: whose environment makes it.
        command: after `python`; {model} and {output} stand for the paths, {here} for this folder.
        output: the folder or file made, after the model's name.
        weights: the files in it that hold the weights.
    """

    peer: str
    command: tuple[str, ...]
    output: str
    weights: str


OPTIMUM = (
    "-m",
    "optimum.commands.optimum_cli",
    *("export", "openvino", "--task", "text-generation-with-past"),
    *("--model", "{model}"),
)
GGUF = ("{here}/make_gguf.py", "{model}", "{output}")
RECIPES = {
    "bf16.gguf": Recipe("llama.cpp", (*GGUF, "BF16"), "-gguf/bf16.gguf", ""),
    "q4_0.gguf": Recipe("llama.cpp", (*GGUF, "Q4_0"), "-gguf/q4_0.gguf", ""),
    "q8_0.gguf": Recipe("llama.cpp", (*GGUF, "Q8_0"), "-gguf/q8_0.gguf", ""),
    "openvino-int8": Recipe(
        "openvino",
        (*OPTIMUM, "--weight-format", "int8", "{output}"),
        "-openvino-int8",
        "openvino_model.bin",
    ),
    "openvino-int4": Recipe(
        "openvino",
        (
            *(*OPTIMUM, "--weight-format", "int4", "--sym"),
            *("--group-size", "128", "--ratio", "1.0", "{output}"),
        ),
        "-openvino-int4",
        "openvino_model.bin",
    ),
    **{
        scheme: Recipe(
            "vllm",
            ("{here}/make_compressed.py", "{model}", "{output}", scheme),
            f"-{scheme}",
            "*.safetensors",
        )
        for scheme in ("w8a8", "w4a16")
    },
    "onnx-int4": Recipe(
        "onnxruntime",
        (
            *("-m", "onnxruntime_genai.models.builder", "-i", "{model}", "-o", "{output}"),
            *("-p", "int4", "-e", "cpu"),
            *("--extra_options", "int4_accuracy_level=4", "int4_block_size=128"),
        ),
        "-onnx-int4",
        "*.data",
    ),
}


def hugging_face(preset: str) -> Path:
    """The bfloat16 checkpoint with a tokenizer, which all others are made from."""
    folder = write_random_model(FOLDER / preset, PRESETS[preset])
    run([sys.executable, str(HERE / "make_tokenizer.py"), str(folder)])
    return folder


def build(preset: str, format_name: str) -> Path:
    """The path of a format, made if it is not there.

    Raises:
        AbsentError: the peer's tool failed; why, in its words.
    """
    source = FOLDER / preset
    if format_name == "safetensors":
        return source
    recipe = RECIPES[format_name]
    output = FOLDER / f"{preset}{recipe.output}"
    done = output.with_name(f"{output.name}.done")
    if done.exists():
        return output
    if format_name.startswith("q"):
        build(preset, "bf16.gguf")
    print(f"Making {output.name} ...", file=sys.stderr, flush=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    places = {"model": source, "output": output, "here": HERE}
    command = [part.format(**places) for part in recipe.command]
    run([str(PEERS[recipe.peer].python), *command], {"PYTHONPATH": str(HERE)})
    if not output.exists():
        raise AbsentError(f"{format_name} was not made")
    done.touch()
    return output


def weight_bytes(preset: str, format_name: str) -> int:
    """Bytes of the files that hold the weights, scales and all."""
    path = build(preset, format_name)
    if path.is_file():
        return path.stat().st_size
    pattern = "*.safetensors" if format_name == "safetensors" else RECIPES[format_name].weights
    return sum(file.stat().st_size for file in path.glob(pattern))


def num_parameters(preset: str) -> int:
    total = 0
    for _, shape in tensor_shapes(PRESETS[preset]):
        size = 1
        for dimension in shape:
            size *= dimension
        total += size
    return total


def max_length(preset: str) -> int:
    """Tokens of the model's context."""
    return PRESETS[preset].max_position_embeddings
