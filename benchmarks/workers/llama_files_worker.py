"""llama.cpp's own quantizer, tokenizer and logits, for benchmarks/gguf_files.py.

    python llama_files_worker.py quantize FROM.gguf TO.gguf Q4_K_M [IMPORTANCE.npz | pure]
    python llama_files_worker.py tokens MODEL.gguf TEXTS.json OUT.json
    python llama_files_worker.py logits MODEL.gguf WINDOWS.json OUT.npy

IMPORTANCE holds the mean square of each input of each matrix by its name in GGUF. Logits are
float32, [windows, tokens, vocabulary], with llama.cpp's defaults: keys and values in float16.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np


def quantize(source: str, out: str, kind: str, how: str = "") -> None:
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_{'ALL' if kind == 'F32' else 'MOSTLY'}_{kind}")
    params.pure = how == "pure"
    kept = _importance(np.load(how)) if how.endswith(".npz") else None
    if kept is not None:
        params.imatrix = ctypes.cast(kept[0], ctypes.POINTER(llama_cpp.llama_model_imatrix_data))
    failed = llama_cpp.llama_model_quantize(source.encode(), out.encode(), params)
    if failed:
        raise RuntimeError(f"llama_model_quantize ended with {failed}.")


def _importance(powers: dict[str, np.ndarray]) -> tuple[Any, list[np.ndarray]]:
    """With an entry without a name at its end; the numbers must outlive it."""
    kind, number = llama_cpp.llama_model_imatrix_data, ctypes.POINTER(ctypes.c_float)
    arrays = [np.ascontiguousarray(values, np.float32) for values in powers.values()]
    entries = [
        kind(name.encode(), values.ctypes.data_as(number), values.size)
        for name, values in zip(powers, arrays, strict=True)
    ]
    return (kind * (len(entries) + 1))(*entries, kind()), arrays


def tokens(path: str, texts: str, out: str) -> None:
    model = _load(path)
    vocab = llama_cpp.llama_model_get_vocab(model)
    found = []
    for text in json.loads(Path(texts).read_text()):
        content = text.encode()
        room = (llama_cpp.llama_token * (len(content) + 8))()
        count = llama_cpp.llama_tokenize(vocab, content, len(content), room, len(room), True, True)
        found.append(list(room[:count]))
    Path(out).write_text(json.dumps(found))


def logits(path: str, windows: str, out: str) -> None:
    model = _load(path)
    size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    runs = json.loads(Path(windows).read_text())
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = len(runs[0])
    context = llama_cpp.llama_init_from_model(model, params)
    found = np.empty((len(runs), len(runs[0]), size), np.float32)
    for i, run in enumerate(runs):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        batch = llama_cpp.llama_batch_init(len(run), 0, 1)
        batch.n_tokens = len(run)
        for place, token in enumerate(run):
            batch.token[place], batch.pos[place], batch.logits[place] = token, place, True
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
        if llama_cpp.llama_decode(context, batch):
            raise RuntimeError("llama_decode failed.")
        values = llama_cpp.llama_get_logits(context)
        found[i] = np.ctypeslib.as_array(values, (len(run), size))
        llama_cpp.llama_batch_free(batch)
    np.save(out, found)


def _load(path: str) -> llama_cpp.llama_model_p:
    params = llama_cpp.llama_model_default_params()
    model = llama_cpp.llama_model_load_from_file(path.encode(), params)
    if not model:
        raise ValueError(f"llama.cpp cannot load {path}.")
    return model


if __name__ == "__main__":
    llama_cpp.llama_backend_init()
    {"quantize": quantize, "tokens": tokens, "logits": logits}[sys.argv[1]](*sys.argv[2:])
