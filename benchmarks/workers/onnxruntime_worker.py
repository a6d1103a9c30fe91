"""ONNX Runtime GenAI in a worker. A cache cannot be set back for more than one sequence: each
round decodes on from where the last one stopped."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime_genai as og
from protocol import Job, serve


class OnnxRuntime:
    def __init__(self, job: Job) -> None:
        config = og.Config(job.model)
        threads = {"intra_op_num_threads": job.threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": threads}}}))
        self._model = og.Model(config)
        about = json.loads((Path(job.model) / "genai_config.json").read_text())
        self._runs = job.runs
        self._vocab_size = about["model"]["vocab_size"]
        self._rng = np.random.default_rng(0)
        self._generators: dict[tuple[int, int], og.Generator] = {}
        self.about = {"onnxruntime-genai": version("onnxruntime-genai")}

    def prefill(self, tokens: int) -> float:
        generator = self._generator(1, tokens + 1)
        prompt = self._random(1, tokens)
        started = perf_counter()
        generator.append_tokens(prompt)
        generator.generate_next_token()
        return perf_counter() - started

    def decode(self, batch: int, context: int, steps: int) -> float:
        generator = self._filled(batch, context, 2 + self._runs * steps)
        started = perf_counter()
        for _ in range(steps):
            generator.generate_next_token()
        return perf_counter() - started

    def _filled(self, batch: int, context: int, room: int) -> og.Generator:
        """With room for all the tokens that will ever be drawn."""
        if (batch, context) not in self._generators:
            generator = self._generator(batch, context + room)
            generator.append_tokens(self._random(batch, context))
            generator.generate_next_token()
            self._generators[batch, context] = generator
        return self._generators[batch, context]

    def _generator(self, batch: int, length: int) -> og.Generator:
        params = og.GeneratorParams(self._model)
        params.set_search_options(
            batch_size=batch, max_length=length, min_length=length, do_sample=False
        )
        return og.Generator(self._model, params)

    def _random(self, batch: int, tokens: int) -> np.ndarray:
        return self._rng.integers(3, self._vocab_size, (batch, tokens)).astype(np.int32)


if __name__ == "__main__":
    serve(OnnxRuntime)
