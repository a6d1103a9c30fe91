"""lm-eval against the server, beside the model's own logits.

    python benchmarks/lm_eval_server.py [--documents 60]

lm-eval, in an environment of its own, asks a server with the bundled model for the log-likelihood
of pieces of the held-out text behind what stands before them; `LLM.logits` says what they are.
Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from own_server import own_server
from peers.environments import FOLDER, PEERS, AbsentError, install

from vivace import LLM
from vivace.evaluate.corpus import held_out_files
from vivace.formats.hub import resolve_model

CONTEXT, CONTINUATION = 300, 80  # characters
WORKER = Path(__file__).parent / "workers" / "lm_eval_worker.py"
NAME = "vivace-mini"

Score = tuple[float, bool]
Pair = tuple[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description="lm-eval against the server.")
    parser.add_argument("--documents", type=int, default=60)
    given = parser.parse_args()
    try:
        install("lm_eval")
    except AbsentError as error:
        print(json.dumps({"absent": f"lm-eval ({error})"}))
        return
    pairs = list(pieces(given.documents))
    with own_server() as server, TemporaryDirectory() as folder:
        told = by_lm_eval(server.url, pairs, Path(folder))
    own = by_logits(pairs)
    print(json.dumps({"absent": None, "told": told, "own": own}))


def pieces(count: int) -> Iterator[Pair]:
    for file in held_out_files()[:count]:
        context = file.text[:CONTEXT].rstrip()  # lm-eval would move white space to what follows
        yield context, file.text[len(context) : len(context) + CONTINUATION]


def by_lm_eval(url: str, pairs: list[Pair], folder: Path) -> list[Score]:
    data = folder / "data.jsonl"
    lines = [json.dumps({"context": one, "continuation": two}) for one, two in pairs]
    data.write_text("\n".join(lines))
    model = resolve_model(None, lambda line: None)
    command = [PEERS["lm_eval"].python, WORKER, url, NAME, model, data]
    variables = {
        "HF_HOME": str(FOLDER / "lm_eval" / "cache"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "no_proxy": "*",
    }
    done = subprocess.run(
        list(map(str, command)),
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [tuple(score) for score in json.loads(done.stdout.splitlines()[-1])]


def by_logits(pairs: list[Pair]) -> list[Score]:
    llm = LLM(notify=lambda line: None)
    assert llm.tokenizer is not None
    return [_score(llm, *pair) for pair in pairs]


def _score(llm: LLM, context: str, continuation: str) -> Score:
    """As lm-eval parts them: the continuation is what the whole has behind as many tokens as the
    context has, and it stands behind those of the context alone."""
    assert llm.tokenizer is not None
    known = llm.tokenizer.encode(context, add_special_tokens=False)
    whole = llm.tokenizer.encode(context + continuation, add_special_tokens=False)
    wanted = whole[len(known) :]
    logits = llm.logits(known + wanted).astype(np.float64)[len(known) - 1 : -1]
    best = logits.max(axis=1)
    logprobs = logits[range(len(wanted)), wanted] - best
    logprobs -= np.log(np.exp(logits - best[:, None]).sum(axis=1))
    return float(logprobs.sum()), bool((logits.argmax(axis=1) == wanted).all())


if __name__ == "__main__":
    main()
