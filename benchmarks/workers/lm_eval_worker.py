"""lm-eval scores continuations through a server: python lm_eval_worker.py URL MODEL TOKENIZER DATA.

DATA is a JSON-lines file of `context` and `continuation`. Prints, for each, the log-likelihood of
the continuation and whether it is the greedy one, as one JSON list.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import lm_eval

TASK = "local"


def main() -> None:
    url, model, tokenizer, data = sys.argv[1:]
    results = lm_eval.simple_evaluate(
        model="local-completions",
        model_args={
            "model": model,
            "base_url": f"{url}/v1/completions",
            "tokenizer": tokenizer,
            "num_concurrent": 4,
        },
        tasks=[task(data)],
        log_samples=True,
        bootstrap_iters=0,
    )
    samples = sorted(results["samples"][TASK], key=lambda sample: sample["doc_id"])
    print(json.dumps([sample["resps"][0][0] for sample in samples]))


def task(data: str) -> dict[str, Any]:
    return {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": data}},
        "test_split": "test",
        "output_type": "loglikelihood",
        "doc_to_text": "{{context}}",
        "doc_to_target": "{{continuation}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    }


if __name__ == "__main__":
    main()
