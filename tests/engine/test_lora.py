"""LoRA adapters through the engine: as merged weights, beside each other, without a trace."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.engine.tiny import write_tiny_llama
from tests.models.peft_files import write_adapter
from vivace import LLM, AsyncLLM, LoRARequest, SamplingParams
from vivace.core.config import EngineConfig
from vivace.core.errors import (
    CapacityError,
    CheckpointError,
    RequestError,
    UsageError,
    VivaceError,
)
from vivace.core.request import AdapterPlace, Delta, Request
from vivace.engine.build import build_engine
from vivace.engine.client import EngineClient
from vivace.engine.core import EngineCore
from vivace.engine.plan import AS_FLOATS, plan_memory
from vivace.engine.requests import fan_out
from vivace.models.adapters import linears

PROMPT = list(range(1, 60))
GREEDY = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, logprobs=3)
LAYERS = [f"model.layers.{i}." for i in range(2)]
SHAPES = {
    "self_attn.q_proj": (48, 48),
    "self_attn.v_proj": (24, 48),
    "self_attn.o_proj": (48, 48),
    "mlp.gate_proj": (80, 48),
    "mlp.up_proj": (80, 48),
    "mlp.down_proj": (48, 80),
}
MODULES = {layer + name: shape for layer in LAYERS for name, shape in SHAPES.items()}
ONE = {f"{LAYERS[1]}self_attn.k_proj": (24, 48)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, two adapters, and the model that the first was merged into."""
    folder = tmp_path_factory.mktemp("lora")
    model = write_tiny_llama(folder / "model")
    added = write_adapter(folder / "sql", MODULES, rank=4)
    write_adapter(folder / "chat", ONE, rank=8, seed=1, lora_alpha=64)
    merged = folder / "merged"
    shutil.copytree(model, merged)
    tensors = load_file(model / "model.safetensors")
    for name, product in added.items():
        tensors[f"{name}.weight"] += product
    save_file(tensors, merged / "model.safetensors")
    return folder


def lora(folder: Path, name: str, number: int = 1) -> LoRARequest:
    return LoRARequest(name, number, str(folder / name))


def load(folder: Path, model: str = "model", **options: Any) -> LLM:
    options = {"kv_memory_bytes": 2**22, "enable_lora": model == "model", **options}
    return LLM(str(folder / model), notify=lambda _: None, packed_cache=False, **options)


def answer(llm: LLM, adapter: LoRARequest | None = None) -> tuple[list[int], list[float]]:
    (output,) = llm.generate([PROMPT], GREEDY, lora_request=adapter)
    return read(output)


def read(output: Any) -> tuple[list[int], list[float]]:
    (one,) = output.outputs
    assert one.error is None, one.error
    return one.token_ids, [p.logprob for step in one.logprobs for p in step.values()]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_an_adapter_answers_as_the_model_it_was_merged_into(folder: Path, backend: str) -> None:
    options = {"backend": backend, "dtype": "float32"}
    llm, merged = load(folder, **options), load(folder, "merged", **options)
    tokens, logprobs = answer(llm, lora(folder, "sql"))
    expected_tokens, expected = answer(merged)
    assert tokens == expected_tokens
    np.testing.assert_allclose(logprobs, expected, atol=2e-4)
    plain = answer(load(folder, enable_lora=False, **options))
    assert answer(llm) == plain
    assert tokens != plain[0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("quantize", [None, "int8"])
def test_adapters_in_one_batch_are_as_they_are_alone(
    folder: Path, dtype: str, quantize: str | None
) -> None:
    """To the bit, whatever comes first and whatever is cached."""
    pytest.importorskip("vivace.backends.cpu._native")
    options = {"backend": "cpu", "dtype": dtype, "quantize": quantize}
    llm = load(folder, **options)
    kinds = [None, lora(folder, "sql"), lora(folder, "chat", 2)]
    together = llm.generate([PROMPT] * 9, GREEDY, lora_request=kinds * 3)
    found = [read(output) for output in together]
    assert len({tuple(tokens) for tokens, _ in found}) == 3
    for place, kind in enumerate(kinds):
        alone = answer(load(folder, **options), kind)
        assert found[place::3] == [alone] * 3
        assert answer(llm, kind) == alone


def test_prefixes_are_not_shared_among_adapters(folder: Path) -> None:
    llm = load(folder, backend="reference")
    for kind in (None, lora(folder, "sql"), lora(folder, "chat", 2)):
        for cached in (0, 48):
            (output,) = llm.generate([PROMPT], GREEDY, lora_request=kind)
            assert output.num_cached_tokens == cached
    # The name stands for another adapter now: what it computed before is not its own.
    llm.unload_adapter("sql")
    other = LoRARequest("sql", 3, str(folder / "chat"))
    (output,) = llm.generate([PROMPT], GREEDY, lora_request=other)
    assert output.num_cached_tokens == 48  # of the same content under another name


def test_scopes_cannot_be_forged() -> None:
    place = Request("a", (1,), adapter="x")
    assert place.cache_scope == ""
    salts = ["", "a", "adapter:d:", "salt:a"]
    scopes = {Request("r", (1,), cache_salt=salt).cache_scope for salt in salts}
    bound = [
        Request("r", (1,), cache_salt=salt, adapter="x", adapter_place=AdapterPlace(1, "d"))
        for salt in salts
    ]
    assert len(scopes | {request.cache_scope for request in bound}) == 2 * len(salts)


def test_what_survives_a_start_is_the_adapters_own(folder: Path, tmp_path: Path) -> None:
    """Pages on disk too are found by the adapter that computed them alone."""
    options: dict[str, Any] = {
        "backend": "reference",
        "kv_host_bytes": 2**22,
        "kv_disk_bytes": 2**24,
        "kv_disk_folder": str(tmp_path),
    }
    first = load(folder, **options)
    expected = answer(first, lora(folder, "sql"))
    first.close()
    for kind, cached in ((None, 0), (lora(folder, "chat", 2), 0), (lora(folder, "sql"), 48)):
        again = load(folder, **options)
        (output,) = again.generate([PROMPT], GREEDY, lora_request=kind)
        assert output.num_cached_tokens == cached
        assert (read(output)[0] == expected[0]) == bool(cached)
        again.close()


def test_adapters_are_refused_where_there_is_no_room(folder: Path) -> None:
    with pytest.raises(UsageError, match="enable_lora"):
        answer(load(folder, backend="reference", enable_lora=False), lora(folder, "sql"))
    llm = load(folder, backend="reference", max_loras=1, max_lora_rank=4)
    with pytest.raises(CheckpointError, match="max_lora_rank"):
        answer(llm, lora(folder, "chat"))
    answer(llm, lora(folder, "sql"))
    with pytest.raises(RequestError, match="another one"):
        answer(llm, LoRARequest("sql", 1, str(folder / "chat")))
    llm.unload_adapter("sql")
    with pytest.raises(RequestError, match="not loaded"):
        llm.unload_adapter("sql")
    with pytest.raises(RequestError, match="lora_int_id"):
        LoRARequest("a", 0, "b")
    with pytest.raises(UsageError, match="lora_modules"):
        EngineConfig(lora_modules="sql=/somewhere")
    for wrong in ("sql", "=x", "a=b,a=c", "a="):
        with pytest.raises(UsageError, match="lora_modules"):
            EngineConfig(enable_lora=True, lora_modules=wrong)


def test_the_adapter_used_longest_ago_makes_way(folder: Path) -> None:
    llm = load(folder, backend="reference", max_loras=2)
    expected = {name: answer(llm, lora(folder, name))[0] for name in ("sql", "chat")}
    assert answer(llm, lora(folder, "sql"))[0] == expected["sql"]
    other = LoRARequest("other", 3, str(folder / "chat"))
    assert answer(llm, other)[0] == expected["chat"]
    assert [one.name for one in llm._core.adapters.infos] == ["sql", "other"]
    damaged = LoRARequest("damaged", 4, str(folder / "model"))
    with pytest.raises(VivaceError):
        answer(llm, damaged)
    assert [one.name for one in llm._core.adapters.infos] == ["sql", "other"]


def test_a_call_may_name_more_adapters_than_there_is_room_for(folder: Path) -> None:
    """Its prompts run in turns, and each is answered as it is alone."""
    llm = load(folder, backend="reference", max_loras=1)
    kinds = [lora(folder, "sql"), None, lora(folder, "chat", 2), lora(folder, "sql"), None]
    seen: list[tuple[int, int]] = []
    together = llm.generate(
        [PROMPT] * 5, GREEDY, lora_request=kinds, progress=lambda *done: seen.append(done)
    )
    assert [read(one)[0] for one in together] == [answer(llm, kind)[0] for kind in kinds]
    assert seen == [(done, 5) for done in range(1, 6)]
    assert llm._core.adapters.infos[0].name == "sql"


def test_logits_and_vectors_are_the_adapters_too(folder: Path) -> None:
    options = {"backend": "reference", "dtype": "float32"}
    llm, merged = load(folder, max_loras=1, **options), load(folder, "merged", **options)
    sql, chat = lora(folder, "sql"), lora(folder, "chat", 2)
    np.testing.assert_allclose(
        llm.logits(PROMPT, lora_request=sql), merged.logits(PROMPT), atol=2e-4
    )
    assert np.abs(llm.logits(PROMPT) - merged.logits(PROMPT)).max() > 0.01
    vectors = llm.embed([PROMPT] * 3, lora_request=[sql, None, chat])
    np.testing.assert_allclose(vectors[0], merged.embed(PROMPT)[0], atol=1e-4)
    np.testing.assert_allclose(vectors[1], llm.embed(PROMPT)[0], atol=1e-4)
    np.testing.assert_allclose(vectors[2], llm.embed(PROMPT, lora_request=chat)[0], atol=1e-4)
    assert np.abs(vectors - vectors[[1, 2, 0]]).max() > 0.01
    rows = llm.logit_batches(PROMPT, lora_request=chat)
    next(rows)
    with pytest.raises(CapacityError, match="max_loras"):  # its place is in use
        llm.logits(PROMPT, lora_request=sql)
    rows.close()  # type: ignore[attr-defined]
    llm.logits(PROMPT, lora_request=sql)


def test_memory_is_set_aside_for_adapters(folder: Path) -> None:
    llm = load(folder, backend="reference")
    backend, spec = llm._core.adapters._backend, llm._core.adapters._decoder.spec
    config = EngineConfig(kv_memory_bytes=2**20, enable_lora=True, max_loras=3, max_lora_rank=33)
    plan = plan_memory(config, spec, backend, 2**30, AS_FLOATS)
    inputs_and_outputs = 2 * ((48 + 48) + 2 * (24 + 48) + (48 + 48) + 2 * (80 + 48) + (48 + 80))
    assert plan.adapter_bytes == 3 * 64 * inputs_and_outputs * 4
    others = plan.weight_bytes + plan.step_bytes + plan.pages.total_bytes
    assert plan.total_bytes == others + plan.adapter_bytes
    plain = plan_memory(replace(config, enable_lora=False), spec, backend, 2**30, AS_FLOATS)
    assert plain.adapter_bytes == 0
    with pytest.raises(CapacityError, match="weights"):
        plan_memory(config, spec, backend, plain.weight_bytes + 1000, AS_FLOATS)


# --- unloading ---


@pytest.fixture
def core(folder: Path) -> EngineCore:
    config = EngineConfig(
        str(folder / "model"),
        backend="reference",
        kv_memory_bytes=2**22,
        enable_lora=True,
        max_loras=1,
        lora_modules=f"sql={folder / 'sql'}",
    )
    return build_engine(config)


def ask(core: EngineCore, name: str, request_id: str = "r") -> None:
    (request,) = fan_out(core.info, request_id, PROMPT, GREEDY)
    core.add(replace(request, adapter=name))


def finish(core: EngineCore) -> list[Delta]:
    deltas = []
    while core.has_work:
        deltas += core.step()
    return deltas


def test_requests_finish_with_an_adapter_that_is_unloaded(core: EngineCore, folder: Path) -> None:
    assert [one.name for one in core.info.adapters] == ["sql"]
    ask(core, "sql")
    expected = [delta.token_ids for delta in finish(core)]
    ask(core, "sql")
    first = core.step()
    assert core.stats().running_adapters == ("sql",)
    core.adapters.unload("sql")
    assert core.adapters.infos == ()
    with pytest.raises(RequestError, match="not loaded"):
        ask(core, "sql", "late")
    with pytest.raises(CapacityError):  # its place is still in use
        core.adapters.load("chat", str(folder / "chat"))
    assert [delta.token_ids for delta in first + finish(core)] == expected
    core.adapters.load("sql", str(folder / "chat"))
    ask(core, "sql")
    assert [delta.token_ids for delta in finish(core)] != expected
    core.check_integrity()


@pytest.mark.parametrize("ends", ["abort", "error", "late"])
def test_however_a_request_ends_its_adapter_is_let_go(
    core: EngineCore, folder: Path, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (request,) = fan_out(core.info, "r", PROMPT, GREEDY)
    if ends == "late":
        request = replace(request, deadline=request.arrival, drop_if_late=True)
    core.add(replace(request, adapter="sql"))
    core.adapters.unload("sql")
    if ends == "abort":
        core.abort("r")
    elif ends == "error":
        monkeypatch.setattr(core._runner, "run", lambda step: 1 / 0)
        assert [delta.finish_reason for delta in core.step()] == ["error"]
    else:
        assert [delta.finish_reason for delta in core.step()] == ["deadline"]
    core.adapters.load("chat", str(folder / "chat"))


def test_a_request_that_is_refused_holds_no_adapter(core: EngineCore, folder: Path) -> None:
    (request,) = fan_out(core.info, "r", PROMPT, GREEDY)
    with pytest.raises(RequestError):
        core.add(replace(request, adapter="sql", prompt_token_ids=()))
    core.adapters.unload("sql")
    core.adapters.load("chat", str(folder / "chat"))


def test_half_an_adapter_does_not_stay(
    core: EngineCore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(core, "sql")
    finish(core)
    core.adapters.unload("sql")
    backend = core.adapters._backend
    good, calls = backend.set_adapter, []

    def fails_late(linear: Any, slot: int, parts: Any) -> None:
        calls.append(slot)
        if len(calls) == 6:
            raise MemoryError("no more")
        good(linear, slot, parts)

    monkeypatch.setattr(backend, "set_adapter", fails_late)
    with pytest.raises(CapacityError, match="memory"):
        core.adapters.load("sql", str(folder / "sql"))
    monkeypatch.undo()
    for _, linear in linears(core.adapters._decoder):
        assert linear.adapters == [()]
    core.adapters.load("sql", str(folder / "sql"))


def test_an_async_engine_loads_once_for_all_who_ask(folder: Path) -> None:
    async def run() -> None:
        engine = AsyncLLM(
            str(folder / "model"),
            notify=lambda _: None,
            backend="reference",
            kv_memory_bytes=2**22,
            enable_lora=True,
        )

        async def ask(kind: LoRARequest | None) -> list[int]:
            async for output in engine.generate(PROMPT, GREEDY, lora_request=kind):
                tokens = output.outputs[0].token_ids
            return tokens

        kinds = [None, lora(folder, "sql"), lora(folder, "sql"), lora(folder, "chat", 2)]
        plain, sql, again, chat = await asyncio.gather(*map(ask, kinds))
        assert sql == again
        assert len({tuple(tokens) for tokens in (plain, sql, chat)}) == 3
        await engine.unload_adapter("sql")
        with pytest.raises(RequestError, match="not loaded"):
            await engine.unload_adapter("sql")
        assert await ask(LoRARequest("sql", 3, str(folder / "chat"))) == chat
        await engine.close()

    asyncio.run(run())


def test_an_engine_elsewhere_loads_and_unloads(folder: Path) -> None:
    async def run() -> None:
        config = EngineConfig(
            str(folder / "model"), backend="reference", kv_memory_bytes=2**22, enable_lora=True
        )
        client = EngineClient(config)
        await client.start()
        assert client.info.max_loras == 4
        loaded = await client.load_adapter("sql", str(folder / "sql"))
        assert [(one.name, one.rank) for one in loaded] == [("sql", 4)]
        with pytest.raises(RequestError, match="already"):
            await client.load_adapter("sql", str(folder / "sql"))
        with pytest.raises(CheckpointError, match="no LoRA adapter"):
            await client.load_adapter("none", str(folder))
        (request,) = fan_out(client.info, "r", PROMPT, GREEDY)
        async with aclosing(client.stream(replace(request, adapter="sql"))) as deltas:
            found = [delta async for delta in deltas]
        assert found[-1].finish_reason == "length"
        assert await client.unload_adapter("sql") == ()
        (last,) = [one async for one in client.stream(replace(request, adapter="sql"))]
        assert (last.finish_reason, last.error_code) == ("error", "model_not_found")
        await client.close()
        with pytest.raises(VivaceError):
            await client.unload_adapter("sql")

    asyncio.run(run())
