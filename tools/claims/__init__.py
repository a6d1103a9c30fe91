"""The foundation's claims: one row each, in the order of its issue."""

from __future__ import annotations

from claims import clean_machine, one_call, speed
from claims.by_tests import tests_pass
from claims.row import Row

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
        lambda: tests_pass("tests/models/test_families.py"),
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
        lambda: tests_pass("tests/serve/test_server.py"),
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
        lambda: tests_pass("tests/serve/test_bad_input.py"),
    ),
}
