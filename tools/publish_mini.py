"""Measure a trained model and put it among the package's assets, with its card.

    python tools/publish_mini.py vivace-mini --run training/vivace-mini

Writes src/vivace/assets/NAME (the model folder, README.md and training.json) and the loss curve
docs/NAME-loss.svg. Held-out bits per byte are of the published weights, computed in float32.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from corpus import ASSETS
from numpy.typing import NDArray
from tokenizers import Tokenizer
from train_mini import PRESETS
from train_tokenizer import write_json

from vivace.backends.protocol import BatchLimits
from vivace.backends.torch import TorchBackend
from vivace.evaluate.bits import BitsPerByte, bits_per_byte
from vivace.evaluate.corpus import held_out_files
from vivace.evaluate.plans import Protocol
from vivace.formats.checkpoint import open_checkpoint
from vivace.models.loader import load_decoder
from vivace.optimize.distill.training import whole_sequences

DOCS = ASSETS.parents[2] / "docs"
Reports = list[dict[str, float]]

CARD = """\
---
license: apache-2.0
language: code
pipeline_tag: text-generation
---

# {name}

A language model of {parameters:.1f} million parameters that completes Python code. It ships with
vivace for its demo, its tests and its quality figures, and is too small for anything else.

| | |
| --- | --- |
| architecture | Llama: {num_hidden_layers} layers, hidden {hidden_size}, MLP {intermediate_size}, \
{num_attention_heads} heads of {head_dim}, {num_key_value_heads} KV heads, tied embeddings |
| vocabulary | {vocab_size}, byte-level BPE with the GPT-2 pre-tokenizer |
| context | {max_position_embeddings} tokens |
| weights | bfloat16, {megabytes:.1f} MB |
| held out | **{bits:.3f} bits per byte**; `xz -9` on the same bytes: {xz_bits:.3f} |

Bits per byte: {files} held-out files, {bytes} bytes, {tokens} tokens; each file by itself after
`<|endoftext|>`, windows of {context} tokens every {stride}, float32.

## Training

From random initialisation, {steps} steps of {batch_tokens} tokens ({epochs:.1f} epochs), on the
sources of the {source} without its tests, tables and bundled packages: {training_files} files,
{training_bytes} bytes, licence {corpus_licence}. A tenth of the functions of each epoch stand in
short chats, which taught the chat template. Best held-out at step {best_step}. The program is
`tools/train_mini.py`; what was held out, and by which rule, stands in `heldout.json`.

## Limits

It repeats and confuses names, knows no fact, and was never taught to be right or safe. Licence of
the weights: Apache-2.0.
"""


def measure(folder: Path) -> BitsPerByte:
    """Held-out bits per byte of a model folder."""
    backend = TorchBackend("float32")
    decoder = load_decoder(open_checkpoint(folder), backend)
    protocol = Protocol()
    limits = BatchLimits(protocol.context, 1, protocol.context)
    program = backend.compile(decoder.logits, (), limits)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def logits(token_ids: Sequence[int]) -> NDArray[np.float32]:
        return backend.numpy(program.run(whole_sequences(np.array([token_ids]))))

    def encode(text: str) -> Sequence[int]:
        ids: list[int] = tokenizer.encode(text).ids
        return ids

    return bits_per_byte(logits, encode, held_out_files(), protocol)


def figures(name: str, folder: Path, reports: Reports) -> dict[str, object]:
    """What training.json holds and the card says."""
    held_out = json.loads((ASSETS / "heldout.json").read_text())
    result, preset = measure(folder), PRESETS[name]
    tensors = open_checkpoint(folder).tensors
    evaluated = [report for report in reports if "held_out_bits_per_byte" in report]
    best = min(evaluated, key=lambda report: report["held_out_bits_per_byte"])
    return {
        "name": name,
        "parameters": sum(int(np.prod(tensors.shape(tensor))) for tensor in tensors) / 1e6,
        "megabytes": (folder / "model.safetensors").stat().st_size / 1e6,
        "bits": result.value,
        "xz_bits": 8 * held_out["xz_9_bytes"] / held_out["bytes"],
        "files": len(held_out["files"]),
        "bytes": result.num_bytes,
        "tokens": result.num_tokens,
        "context": result.protocol.context,
        "stride": result.protocol.stride,
        "steps": reports[-1]["step"],
        "batch_tokens": preset.batch_tokens,
        "epochs": reports[-1]["epoch"],
        "best_step": best["step"],
        "source": held_out["source"],
        "corpus_licence": held_out["licence"],
        "training_files": held_out["training_files"],
        "training_bytes": held_out["training_bytes"],
    }


def read_log(path: Path) -> Reports:
    """By step; where a killed run went on, its last word on a step counts."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    by_step = {line["step"]: line for line in lines}
    return [by_step[step] for step in sorted(by_step)]


def plot(name: str, reports: Reports, path: Path) -> None:
    """Training loss and held-out bits per byte over the steps."""
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = name  # the same curve is the same file
    figure, left = plt.subplots(figsize=(7, 4), layout="constrained")
    evaluated = [report for report in reports if "held_out_bits_per_byte" in report]
    left.plot([r["step"] for r in reports], [r["loss"] for r in reports], lw=1, color="#888888")
    left.set(xlabel="step", ylabel="training loss, nats per token (grey)", title=name)
    right = left.twinx()
    bits = [report["held_out_bits_per_byte"] for report in evaluated]
    right.plot([report["step"] for report in evaluated], bits, color="#c03020")
    right.set(ylabel="held-out bits per byte, file beginnings (red)", ylim=(0.8, 2.4))
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description="Publish a trained model among the assets.")
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("--run", type=Path, required=True, help="output folder of train_mini.py")
    arguments = parser.parse_args()
    name, best = arguments.preset, arguments.run / "best"
    reports = read_log(arguments.run / "log.jsonl")
    values = figures(name, best, reports)
    config = json.loads((best / "config.json").read_text())
    target = ASSETS / name
    shutil.copytree(best, target, dirs_exist_ok=True)
    (target / "README.md").write_text(CARD.format(**config, **values), encoding="utf-8")
    write_json(target / "training.json", values)
    plot(name, reports, DOCS / f"{name}-loss.svg")
    print(json.dumps(values, indent=2), file=sys.stderr)


if __name__ == "__main__":
    main()
