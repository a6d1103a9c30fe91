"""What a constraint takes, without an engine."""

from __future__ import annotations

import random
from typing import Any

from tokenizers import Tokenizer as RustTokenizer

from vivace.core.structured import StructuredOutputsParams
from vivace.decoding.compiling import Compiler
from vivace.text.tokenizer import Tokenizer


class Matching:
    """Texts in the tokens of a tokenizer whose end is `</s>`."""

    def __init__(self, rust: RustTokenizer) -> None:
        self.rust = rust
        self._end = rust.token_to_id("</s>")
        tokenizer = Tokenizer(rust, {"eos_token": "</s>"})
        self._compiler = Compiler(tokenizer, rust.get_vocab_size(), [self._end])

    def close(self) -> None:
        self._compiler.close()

    def takes(self, form: StructuredOutputsParams, text: str) -> bool:
        """Whether the text is a whole answer."""
        matcher = self.matcher(form)
        ids = self.rust.encode(text, add_special_tokens=False).ids
        return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()

    def says(self, form: StructuredOutputsParams, rng: random.Random) -> str:
        """Tokens drawn at random; where it may end, it does so every second time."""
        matcher, ids = self.matcher(form), []
        while not (matcher.is_accepting() and rng.random() < 0.5):
            allowed = [token for token, bias in enumerate(matcher.compute_logit_bias()) if bias]
            if allowed == [self._end]:
                break
            ids.append(rng.choice([token for token in allowed if token != self._end]))
            assert matcher.consume_token(ids[-1])
        return str(self.rust.decode(ids, skip_special_tokens=False))

    def matcher(self, form: StructuredOutputsParams) -> Any:
        """At the beginning of an answer; raises RequestError for what cannot be compiled."""
        self._compiler.begin(form)
        self._compiler.wait([form], 10)
        return self._compiler.matcher(form)
