"""Every family gives the logits of Transformers, from the files that Transformers wrote: the
decoder of every case on every backend, and one case of each family all the way through `LLM`."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from decoder_runs import logits, paged_logits  # noqa: E402
from family_cases import CASES, LENGTH, Case  # noqa: E402
from oracle import Oracle, rewrite_config, save_checkpoint  # noqa: E402

from vivace.backends.cpu import CpuBackend  # noqa: E402
from vivace.backends.protocol import Backend, DTypeName  # noqa: E402
from vivace.backends.reference import ReferenceBackend  # noqa: E402
from vivace.backends.torch import TorchBackend  # noqa: E402
from vivace.core.errors import BackendError  # noqa: E402
from vivace.core.sampling import SamplingParams  # noqa: E402
from vivace.engine.llm import LLM  # noqa: E402
from vivace.formats.checkpoint import open_checkpoint  # noqa: E402
from vivace.models.decoder import Decoder  # noqa: E402
from vivace.models.loader import load_decoder, model_spec  # noqa: E402

pytestmark = pytest.mark.oracle

TOLERANCE = 1e-4
TOKENS = random.Random(3).choices(range(3, 67), k=LENGTH)
PROMPT, ANSWER = 24, 64
CHUNKS = (19, 20)  # then one by one
BACKENDS = {
    "reference": ReferenceBackend,
    "torch": TorchBackend,
    **{
        f"cpu-{isa}": partial(CpuBackend, threads=1, isa=isa)
        for isa in ("portable", "avx2", "avx512", "avx512bf16", "amx")
    },
}
FIRST_CASES = list({case.family: case for case in reversed(CASES)}.values())
MIXTURES = {"qwen3_moe", "mixtral", "gpt_oss"}
GREEDY = SamplingParams(temperature=0, max_tokens=ANSWER, ignore_eos=True)


@dataclass(frozen=True)
class Sample:
    """A saved checkpoint and what Transformers makes of it.

    Attributes:
        logits: of `TOKENS`.
        answer: the greedy continuation of the prompt; None where factors change on the way.
    """

    folder: Path
    logits: NDArray[np.float32]
    answer: list[int] | None


@pytest.fixture(scope="module")
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    case, style = request.param
    folder = tmp_path_factory.mktemp(case.name)
    save_checkpoint(case, folder)
    if style == "old":
        rewrite_config(folder)
    oracle = Oracle(case, folder)
    expected = oracle.logits(TOKENS)
    answer = None if case.length_dependent else oracle.continuation(TOKENS[:PROMPT], ANSWER)
    return Sample(folder, expected, answer)


SAMPLES = pytest.mark.parametrize(
    "sample",
    [
        pytest.param((case, style), id=f"{case.name}-{style}")
        for case in CASES
        for style in ("new", "old")
    ],
    indirect=True,
)


def make_backend(name: str, dtype: DTypeName = "float32") -> Backend:
    try:
        return BACKENDS[name](dtype)
    except BackendError as error:
        pytest.skip(str(error))


def all_logits(decoder: Decoder, backend: Backend, tokens: list[int]) -> NDArray[np.float32]:
    """The cpu backend always has pages."""
    if backend.name == "cpu":
        return paged_logits(decoder, backend, tokens, (len(tokens),))
    return logits(decoder, backend, tokens)


def relative_error(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def row_error(case: Case, found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Of the worst row; with experts of the median one, since a near tie between them may send a
    few rows elsewhere."""
    errors = np.sqrt(np.mean((found - expected) ** 2, axis=-1))
    return float(np.median(errors) if case.family in MIXTURES else errors.max())


@SAMPLES
@pytest.mark.parametrize("name", BACKENDS)
def test_logits_and_greedy_tokens(sample: Sample, name: str) -> None:
    backend = make_backend(name)
    checkpoint = open_checkpoint(sample.folder)
    decoder = load_decoder(checkpoint, backend, model_spec(checkpoint.config, LENGTH))
    assert relative_error(all_logits(decoder, backend, TOKENS), sample.logits) < TOLERANCE
    paged = paged_logits(decoder, backend, TOKENS, CHUNKS)
    assert relative_error(paged, sample.logits) < TOLERANCE
    if sample.answer is None:
        return
    # The decoder is causal: it answers so if each answered token is its best after the ones before.
    decoder = load_decoder(checkpoint, backend, model_spec(checkpoint.config, PROMPT + ANSWER))
    spoken = TOKENS[:PROMPT] + sample.answer[:-1]
    best = all_logits(decoder, backend, spoken).argmax(-1)
    assert best[PROMPT - 1 :].tolist() == sample.answer


@pytest.mark.parametrize(
    "sample",
    [pytest.param((case, "new"), id=case.family) for case in FIRST_CASES],
    indirect=True,
)
@pytest.mark.parametrize("name", ["cpu", "reference", "torch"])
def test_an_engine_answers_as_transformers_does(sample: Sample, name: str) -> None:
    llm = LLM(
        str(sample.folder),
        backend=name,
        dtype="float32",
        max_model_len=PROMPT + ANSWER,
        kv_memory_bytes=2**22,
    )
    assert relative_error(llm.logits(TOKENS), sample.logits) < TOLERANCE
    (answer,) = llm.generate([TOKENS[:PROMPT]], GREEDY)
    assert answer.outputs[0].token_ids == sample.answer


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("case", FIRST_CASES, ids=lambda case: case.family)
def test_bfloat16_errs_as_transformers_does(case: Case, name: str, tmp_path: Path) -> None:
    backend = make_backend(name, "bfloat16")
    save_checkpoint(case, tmp_path, torch.bfloat16)
    exact = Oracle(case, tmp_path).logits(TOKENS)
    rounded = Oracle(case, tmp_path, torch.bfloat16).logits(TOKENS)
    checkpoint = open_checkpoint(tmp_path)
    decoder = load_decoder(checkpoint, backend, model_spec(checkpoint.config, LENGTH))
    found = paged_logits(decoder, backend, TOKENS, CHUNKS)
    assert row_error(case, found, exact) < 2 * row_error(case, rounded, exact)
