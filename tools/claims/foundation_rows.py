"""The foundation's claims: one row each, in the order of its issue."""

from __future__ import annotations

from claims import clean_machine, one_call, speed
from claims.by_tests import tests_pass
from claims.row import Row

_SERVER = "tests/serve/test_server.py::test_"
SERVER_TESTS = (
    _SERVER + "models_are_listed",
    _SERVER + "a_completion_is_the_same_streamed_or_not",
    _SERVER + "a_chat_is_the_same_streamed_or_not",
    _SERVER + "64_streams_at_once_finish",
    _SERVER + "killing_32_of_64_clients_frees_their_pages",
    "tests/serve/test_disconnect.py",
)
BAD_INPUT_TESTS = (
    _SERVER + "bad_input_is_a_clear_400_and_harms_nobody",
    _SERVER + "a_prompt_longer_than_the_context_says_both_lengths",
    _SERVER + "a_body_of_100_mb_is_refused_unread",
    "tests/serve/test_schemas.py",
    "tests/engine/test_requests.py",
)

ROWS: dict[int, Row] = {
    1: Row(
        "On a clean machine, make demo and make test each work alone",
        "exit 0, a completion and the serve command line; every test passes",
        "10 to 25 minutes",
        clean_machine.prove,
    ),
    2: Row(
        "Every family's logits and greedy text are those of Transformers",
        "1e-4 relative in float32 on every backend and ISA level; 64 equal tokens",
        "2 to 5 minutes",
        lambda: tests_pass("tests/models"),
    ),
    3: Row(
        "What else runs never changes a request's tokens; pages are never lost",
        "200 mixed requests identical in every setting; 100,000 operations keep the books",
        "1 to 4 minutes",
        lambda: tests_pass("tests/engine/test_lossless.py", "tests/cache/test_random_use.py"),
    ),
    4: Row(
        "The openai client works; 64 streams finish; 32 killed clients leave no page behind",
        "all tests pass",
        "1 to 2 minutes",
        lambda: tests_pass(*SERVER_TESTS),
    ),
    5: Row(
        "Faster than Transformers in bfloat16 at 0.35B and 1.1B, and quick to start",
        "decode 2.5 times, prefill 0.9 times; first token within 1 s, help within 0.3 s",
        "5 to 8 minutes",
        speed.prove,
    ),
    6: Row(
        "A decode step is one native call",
        "1 call; less than 3% outside it at 0.35B",
        "1 minute",
        one_call.prove,
    ),
    7: Row(
        "A served CPU model imports neither torch nor transformers",
        "neither is in the processes",
        "10 seconds",
        lambda: tests_pass("tests/cli/test_without_torch.py"),
    ),
    8: Row(
        "Bad input gets a clear 400 or 413, and harms nobody",
        "all tests pass",
        "1 minute",
        lambda: tests_pass(*BAD_INPUT_TESTS),
    ),
}
