"""The claims about serving: one row each, in the order of their issue. Times are for two cores."""

from __future__ import annotations

from claims import page, robustness, structured
from claims.benchmark import judged
from claims.by_tests import tests_pass_with
from claims.row import Outcome, Row


def drills() -> Outcome:
    return tests_pass_with({"VIVACE_DRILLS": "1"}, "tests/serve/drills")


ROWS: dict[int, Row] = {
    1: Row(
        "The official clients work, and lm-eval's numbers are the model's",
        "openai for Python and Node.js and anthropic for Python run a script of every feature; "
        "log-likelihoods as computed from LLM.logits, to 0.001 nats",
        "2 minutes, at most 15",
        robustness.clients,
    ),
    2: Row(
        "No body and no bytes on the wire bring the server down",
        "schemathesis: no 500 and nothing undocumented in 20,000 cases; 3,000 broken connections "
        "leave no socket, request or memory behind and change no stream",
        "5 minutes, at most 30",
        robustness.fuzz,
    ),
    3: Row(
        "Structured output is what was asked for",
        "1,000 random schemas, 100 regexes and 50 grammars: what ends by stop is valid, 95% end "
        "within 512 tokens; what explodes is refused within 12 s; 90% of the throughput without",
        "2 minutes, at most 15",
        judged("structured.py", 15, structured.structured),
    ),
    4: Row(
        "Drills: clients, engines, memory and disks fail under load",
        "nothing acknowledged is lost, what is refused has its exact error, health tells the truth",
        "2 minutes, at most 10",
        drills,
    ),
    5: Row(
        "20 minutes at full load change nothing",
        "no error that is not the client's own; in the last 5 minutes, beside minutes 2 to 6, "
        "memory within 2% and p99s within 1.25 times",
        "20 minutes, at most 25",
        judged("soak.py", 25, robustness.soak, "--plot", "docs/soak.svg"),
    ),
    6: Row(
        "The front end costs little",
        "3,000 streamed tokens per CPU-second of the server, in events of their own; beside vLLM's",
        "3 minutes, at most 15",
        judged("frontend.py", 15, robustness.frontend),
    ),
    7: Row(
        "The page works in Chromium, at desktop and phone sizes",
        "streaming, stop, compare and live charts; screenshots in docs/",
        "1 minute, at most 5",
        page.works,
    ),
}
