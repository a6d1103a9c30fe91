"""The sampler: options against formulas, streams, batches and bad logits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from vivace.core.request import Request
from vivace.core.sampling import SamplingParams
from vivace.core.step import Picked, ScheduledSequence, Step
from vivace.decoding.adjust import adjusted
from vivace.decoding.random_stream import uniform
from vivace.decoding.sampler import InvalidLogitsError, NothingAllowedError, Sampler

pytestmark = pytest.mark.tiny

VOCAB = 500
END = (2, 3)


def sequence(
    params: SamplingParams,
    request_id: str = "a",
    prompt: tuple[int, ...] = (5, 6, 7),
    output: tuple[int, ...] = (),
    index: int = 0,
) -> ScheduledSequence:
    request = Request(request_id, prompt, params, index=index)
    token_ids = [*prompt, *output]
    return ScheduledSequence(request, token_ids, len(token_ids) - 1, 1, ((),), samples=True)


def rows(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, VOCAB)).astype(np.float32) * 3


def pick_one(row: NDArray[np.float32], sequence: ScheduledSequence, seed: int = 0) -> Picked:
    return Sampler(END, default_seed=seed).pick(row[None], Step((sequence,)))[0]


def test_greedy_takes_the_lowest_id_among_equals() -> None:
    row = np.zeros(VOCAB, np.float32)
    row[[40, 30, 50]] = 9
    assert pick_one(row, sequence(SamplingParams(temperature=0))).token_id == 30


def test_only_sampling_sequences_have_rows() -> None:
    waiting = dataclasses.replace(sequence(SamplingParams(), "w"), samples=False)
    chosen = sequence(SamplingParams(temperature=0), "c")
    logits = rows(1)
    picked = Sampler(END).pick(logits, Step((waiting, chosen)))
    assert picked == [Picked("c", int(logits[0].argmax()))]
    assert Sampler(END).pick(np.zeros((0, VOCAB), np.float32), Step((waiting,))) == []


def test_scores_stand_behind_the_rows_that_draw() -> None:
    prompt = SamplingParams(temperature=0, prompt_logprobs=1)
    scoring = dataclasses.replace(
        sequence(prompt, "s"), start=0, count=3, samples=True, reads=range(2)
    )
    chosen = sequence(SamplingParams(temperature=0), "c")
    logits = rows(4)
    step = Step((scoring, chosen))
    assert [one.token_id for one in Sampler(END).pick(logits, step)] == [
        int(row.argmax()) for row in logits[:2]
    ]
    (scored,) = Sampler(END).score(logits, step)
    assert scored.request_id == "s"
    for entry, row, token in zip(scored.logprobs, logits[2:], (6, 7), strict=True):
        assert next(iter(entry)) == token
        expected = float(row[token]) - float(np.log(np.exp(row.astype(np.float64)).sum()))
        assert entry[token].logprob == pytest.approx(expected, abs=1e-5)
        assert entry[int(row.argmax())].rank == 1


def test_a_score_that_is_not_a_number_fails_its_request_alone() -> None:
    prompt = SamplingParams(prompt_logprobs=0)
    scoring = dataclasses.replace(sequence(prompt, "s"), samples=False, reads=range(2))
    logits = rows(3)
    logits[2, 5] = np.nan
    step = Step((scoring, sequence(SamplingParams(), "c")))
    assert len(Sampler(END).pick(logits, step)) == 1
    with pytest.raises(InvalidLogitsError) as caught:
        Sampler(END).score(logits, step)
    assert caught.value.request_ids == ("s",)


def test_penalties_are_vllms() -> None:
    """Repetition over prompt and output; presence and frequency over the output only."""
    params = SamplingParams(
        repetition_penalty=1.3,
        presence_penalty=0.5,
        frequency_penalty=0.25,
        logit_bias={9: 2.0, 11: -100.0},
    )
    prompt, output = (5, 6, 6, 7), (9, 9, 7, 20)
    row = rows(1)[0]
    expected = row.astype(np.float64)
    expected[9] += 2.0
    expected[11] += -100.0
    for token in {*prompt, *output}:
        expected[token] = expected[token] / 1.3 if expected[token] > 0 else expected[token] * 1.3
    for token in set(output):
        expected[token] -= 0.25 * output.count(token) + 0.5
    before = row.copy()
    actual = adjusted(row, sequence(params, prompt=prompt, output=output), [])
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(row, before)


def test_nothing_asked_for_copies_nothing() -> None:
    row = rows(1)[0]
    assert adjusted(row, sequence(SamplingParams(temperature=0.5, min_tokens=0)), []) is row


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_end_and_stop_tokens_are_masked_until_min_tokens(temperature: float) -> None:
    params = SamplingParams(
        temperature=temperature, min_tokens=2, stop_token_ids=(10, VOCAB + 5), seed=1
    )
    row = np.full(VOCAB, -50, np.float32)
    row[[*END, 10]] = 50
    row[77] = 10
    assert pick_one(row, sequence(params)).token_id == 77
    assert pick_one(row, sequence(params, output=(4,))).token_id == 77
    assert pick_one(row, sequence(params, output=(4, 4))).token_id in (*END, 10)


def test_bias_decides_greedy() -> None:
    params = SamplingParams(temperature=0, logit_bias={123: 100.0})
    assert pick_one(rows(1)[0], sequence(params)).token_id == 123


def mixed_sequences(count: int) -> list[ScheduledSequence]:
    rng = np.random.default_rng(5)
    made = []
    for place in range(count):
        params = SamplingParams(
            temperature=float(rng.choice([0, 0.3, 1.0, 1.6])),
            top_k=int(rng.choice([0, 1, 20])),
            top_p=float(rng.choice([1.0, 0.9, 0.4])),
            min_p=float(rng.choice([0.0, 0.05])),
            repetition_penalty=float(rng.choice([1.0, 1.2])),
            presence_penalty=float(rng.choice([0.0, 1.0])),
            logit_bias={3: 1.0} if rng.random() < 0.3 else {},
            min_tokens=int(rng.choice([0, 9])),
            seed=None if rng.random() < 0.5 else int(rng.integers(100)),
            logprobs=None if rng.random() < 0.5 else 4,
        )
        output = tuple(rng.integers(0, VOCAB, int(rng.integers(0, 12))).tolist())
        made.append(sequence(params, f"r{place}", output=output))
    return made


def test_a_pick_does_not_depend_on_the_batch() -> None:
    sequences, logits = mixed_sequences(60), rows(60, seed=2)
    sampler = Sampler(END, default_seed=11)
    together = sampler.pick(logits, Step(tuple(sequences)))
    alone = [sampler.pick(logits[[place]], Step((one,)))[0] for place, one in enumerate(sequences)]
    assert alone == together
    order = np.random.default_rng(0).permutation(60)[:31]
    shuffled = sampler.pick(logits[order], Step(tuple(sequences[place] for place in order)))
    assert shuffled == [together[place] for place in order]


def test_a_seed_fixes_the_draw_whatever_the_request_is_called() -> None:
    row, params = np.zeros(VOCAB, np.float32), SamplingParams(seed=42)
    picks = {
        pick_one(row, sequence(params, name), seed).token_id for name in "ab" for seed in (1, 2)
    }
    assert len(picks) == 1


def test_streams_differ_by_seed_position_choice_and_request() -> None:
    seeded, unseeded = SamplingParams(seed=42), SamplingParams()
    requests = [
        Request("a", (1,), seeded),
        Request("a", (1,), seeded, index=1),
        Request("a", (1,), SamplingParams(seed=43)),
        Request("a", (1,), unseeded),
        Request("b", (1,), unseeded),
    ]
    draws = [uniform(request, place, 0) for request in requests for place in range(50)]
    draws.append(uniform(requests[3], 0, default_seed=1))
    assert len(set(draws)) == len(draws)
    assert uniform(requests[0], 5, 0) == uniform(requests[0], 5, 99)


def test_streams_are_uniform() -> None:
    request = Request("a", (1,), SamplingParams(seed=0))
    draws = np.array([uniform(request, place, 0) for place in range(20_000)])
    counts = np.histogram(draws, bins=50, range=(0, 1))[0]
    assert ((counts - 400) ** 2 / 400).sum() < 49 + 5 * np.sqrt(98)
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.03


def test_logprobs_are_of_the_model_itself() -> None:
    params = SamplingParams(temperature=0, logit_bias={123: 100.0}, logprobs=3)
    row = rows(1)[0]
    picked = Sampler(END, decode=lambda token: f"<{token}>").pick(
        row[None], Step((sequence(params),))
    )
    entries = picked[0].logprobs
    assert entries is not None
    expected = row.astype(np.float64) - np.log(np.exp(row.astype(np.float64)).sum())
    ranked = np.argsort(-row, kind="stable").tolist()
    assert list(entries) == [123, *ranked[:3]]
    for token, entry in entries.items():
        assert entry.logprob == pytest.approx(expected[token], abs=1e-5)
        assert entry.rank == ranked.index(token) + 1
        assert entry.decoded_token == f"<{token}>"


def test_logprobs_of_zero_are_the_chosen_token_alone() -> None:
    row = rows(1)[0]
    entries = pick_one(row, sequence(SamplingParams(temperature=0, logprobs=0))).logprobs
    assert entries is not None
    assert list(entries) == [int(row.argmax())]
    assert entries[int(row.argmax())].rank == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_logits_name_their_requests(bad: float) -> None:
    logits = rows(4)
    logits[1, 400] = bad
    logits[3] = -np.inf
    sequences = tuple(sequence(SamplingParams(), name) for name in "abcd")
    with pytest.raises(InvalidLogitsError) as caught:
        Sampler(END).pick(logits, Step(sequences))
    assert caught.value.request_ids == ("b", "d")
    sound = Sampler(END).pick(logits[[0, 2]], Step((sequences[0], sequences[2])))
    assert [one.request_id for one in sound] == ["a", "c"]


def test_a_request_that_masks_every_token_fails_alone() -> None:
    row = np.full(VOCAB, -np.inf, np.float32)
    row[list(END)] = 1
    with pytest.raises(NothingAllowedError) as caught:
        pick_one(row, sequence(SamplingParams(min_tokens=1)))
    assert (caught.value.request_ids, caught.value.param) == (("a",), "min_tokens")
    with pytest.raises(NothingAllowedError) as caught:
        pick_one(row, sequence(SamplingParams(min_tokens=1, allowed_token_ids=END)))
    assert caught.value.param == "allowed_token_ids"


@pytest.mark.parametrize("temperature", [0.0, 50.0])
def test_only_allowed_tokens_are_drawn(temperature: float) -> None:
    allowed = (3, 200, 77)
    params = SamplingParams(
        temperature=temperature, allowed_token_ids=allowed, logit_bias={5: 100}, seed=2
    )
    row = rows(1)[0]
    drawn = {pick_one(row, sequence(params, output=(9,) * count)).token_id for count in range(40)}
    assert drawn <= set(allowed)
    best = max(allowed, key=lambda token: row[token])
    assert drawn == {best} if temperature == 0 else len(drawn) > 1


def test_bad_words_are_not_completed() -> None:
    """A word of two tokens bars the second where the first stands, and nowhere else."""
    written = {"ab": [3, 4], " ab": [9], "c": [5], " c": [5]}
    sampler = Sampler(END, encode=written.__getitem__)
    row = np.full(VOCAB, -50, np.float32)
    row[[4, 9, 5, 77]] = 4, 3, 2, 1
    params = SamplingParams(temperature=0, bad_words=("ab", " c"))

    def drawn(*output: int) -> int:
        step = Step((sequence(params, prompt=(3,), output=output),))
        return sampler.pick(row[None], step)[0].token_id

    assert drawn() == 4  # what the prompt ends with begins no word
    assert drawn(3) == 77
    assert drawn(4) == drawn(3, 7) == 4
    assert drawn(7, 3) == 77
