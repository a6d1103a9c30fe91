"""What an engine will hold: its weights, and how memory is shared among KV groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engine.tiny import CONFIG, write_tiny_llama
from vivace.backends.protocol import KVSpec, LinearForm
from vivace.backends.reference import ReferenceBackend
from vivace.cache.pool import (
    PageDemand,
    blocks_held,
    blocks_of_step,
    longest_that_fits,
    plan_pages,
)
from vivace.core.config import EngineConfig
from vivace.core.errors import CapacityError
from vivace.engine.plan import batch_limits, plan_memory, step_bytes, weight_bytes
from vivace.formats.checkpoint import open_checkpoint
from vivace.formats.policy import PrecisionPolicy
from vivace.formats.qtensor import QTensor, Scheme
from vivace.formats.rounding import stored_as
from vivace.models.loader import load_decoder, model_spec, role_schemes

pytestmark = pytest.mark.tiny

SPEC = model_spec(CONFIG)
BACKEND = ReferenceBackend("float32")
WEIGHTS = weight_bytes(SPEC, "float32")
STEP = step_bytes(SPEC, batch_limits(EngineConfig()))

FULL = KVSpec(num_layers=1, num_kv_heads=1, head_dim=64)
WINDOW = KVSpec(num_layers=5, num_kv_heads=1, head_dim=64, window=64)
DEMAND = PageDemand(max_model_len=1000, max_num_seqs=10, max_step_tokens=32)
SIZES = [100, 500]


def test_a_window_needs_only_what_it_sees_and_computes() -> None:
    assert (blocks_held(FULL, DEMAND), blocks_of_step(FULL, DEMAND)) == (63, 0)
    assert (blocks_held(WINDOW, DEMAND), blocks_of_step(WINDOW, DEMAND)) == (5, 2)
    short = PageDemand(max_model_len=40, max_num_seqs=10, max_step_tokens=32)
    assert (blocks_held(WINDOW, short), blocks_of_step(WINDOW, short)) == (3, 0)


def test_with_enough_memory_every_sequence_fits_and_no_more_is_taken() -> None:
    plan = plan_pages([FULL, WINDOW], SIZES, DEMAND, 10**9)
    assert plan.num_pages == (630, 52)  # what a step computes is there once
    assert plan.total_bytes == 630 * 100 + 52 * 500


@pytest.mark.parametrize("budget", [9_800, 15_000, 88_999])
def test_a_tight_budget_is_kept_and_still_holds_one_sequence(budget: int) -> None:
    plan = plan_pages([FULL, WINDOW], SIZES, DEMAND, budget)
    assert plan.total_bytes <= budget
    assert plan.num_pages[0] >= 63
    assert plan.num_pages[1] >= 7


def test_a_small_window_has_room_for_more_sequences_than_are_all_long() -> None:
    """Else nothing short could run beside them: the window's pages would be gone first."""
    near = KVSpec(num_layers=1, num_kv_heads=1, head_dim=64, window=1)
    demand = PageDemand(max_model_len=16_000, max_num_seqs=64, max_step_tokens=1)
    plan = plan_pages([FULL, near], [100, 100], demand, 400_000)
    assert plan.num_pages == (3_935, 65)  # 64, and what a step passes
    assert plan.num_sequences == 3
    tight = plan_pages([FULL, near], [100, 100], demand, 101_000)
    assert tight.num_pages == (1_000, 10)


def test_less_than_one_sequence_is_an_error_and_says_which_length_would_fit() -> None:
    with pytest.raises(CapacityError, match="max_model_len"):
        plan_pages([FULL, WINDOW], SIZES, DEMAND, 9_799)
    fits = longest_that_fits([FULL, WINDOW], SIZES, DEMAND, 9_799)
    assert fits == 62 * 16
    shorter = PageDemand(fits, 10, 32)
    assert plan_pages([FULL, WINDOW], SIZES, shorter, 9_799).total_bytes <= 9_799


def test_weights_are_those_of_the_decoder_in_the_dtype_of_the_backend() -> None:
    table = 199 * 48
    layer = 2 * 48 + 2 * 48 * 48 + 2 * 24 * 48 + 3 * 48 * 80
    assert weight_bytes(SPEC, "float32") == 4 * (2 * table + 2 * layer + 48)
    assert weight_bytes(SPEC, "bfloat16") == WEIGHTS // 2


def test_a_tied_table_is_kept_as_rows_and_as_a_head() -> None:
    assert weight_bytes(model_spec({**CONFIG, "tie_word_embeddings": True}), "float32") == WEIGHTS


@pytest.mark.parametrize("quantize", ["int8", "int4-g32,embedding=int8", "int4-g128-zp,head=none"])
@pytest.mark.parametrize("experts", [False, True])
def test_rounded_weights_are_counted_as_they_are_stored(
    tmp_path: Path, quantize: str, experts: bool
) -> None:
    kept: list[QTensor] = []

    class Counting(ReferenceBackend):
        def embedding(self, tensor: QTensor, scheme: Scheme | None = None) -> Any:
            kept.extend(stored_as([tensor], scheme))
            return super().embedding(tensor, scheme)

        def linear(self, parts: Any, *others: Any, form: LinearForm, **more: Any) -> Any:
            kept.extend(stored_as(parts, form.scheme))
            return super().linear(parts, *others, form=form, **more)

    moe = {"model_type": "mixtral", "num_local_experts": 3} if experts else {}
    checkpoint = open_checkpoint(write_tiny_llama(tmp_path, **moe))
    policy = PrecisionPolicy.parse(quantize)
    spec = load_decoder(checkpoint, Counting(), policy=policy).spec
    vectors = 4 * 5 * 48  # norms
    schemes = role_schemes(spec, policy)
    assert weight_bytes(spec, "float32", schemes) == sum(t.nbytes for t in kept) + vectors


def test_what_was_asked_for_must_fit_what_is_free() -> None:
    pages = plan_memory(EngineConfig(max_num_seqs=4), SPEC, BACKEND, 1 << 40).pages
    asked = EngineConfig(max_num_seqs=4, kv_memory_bytes=pages.total_bytes)
    fits = WEIGHTS + step_bytes(SPEC, batch_limits(asked)) + pages.total_bytes
    assert plan_memory(asked, SPEC, BACKEND, fits).total_bytes == fits
    with pytest.raises(CapacityError, match="kv_memory_bytes"):
        plan_memory(asked, SPEC, BACKEND, fits - 1)


@pytest.mark.parametrize(
    ("config", "available", "sentence"),
    [
        (EngineConfig(), WEIGHTS + STEP, "smaller model"),
        (EngineConfig(kv_memory_bytes=1), 1 << 40, "KV memory"),
        (EngineConfig(max_model_len=256), WEIGHTS + STEP + 1000, "max_model_len"),
    ],
)
def test_what_cannot_fit_is_a_sentence(config: EngineConfig, available: int, sentence: str) -> None:
    with pytest.raises(CapacityError, match=sentence):
        plan_memory(config, SPEC, BACKEND, available)
