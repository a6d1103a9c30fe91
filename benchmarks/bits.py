"""What rounding costs: bits per byte on the held-out text, for each scheme and without one.

    python benchmarks/bits.py [--schemes int8 int4-g128] [--model FOLDER] [--files N]

Takes a minute or two with the bundled model; prints one JSON object. `cost` is the share
of bits that a scheme needs beyond those of the model as it is (docs/vivace-mini.md says how they
are counted).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from vivace import LLM
from vivace.evaluate.bits import bits_per_byte
from vivace.evaluate.corpus import TextFile, held_out_files

SCHEMES = ("int8", "int4-g128", "int4-g32", "int4-g32-zp")


def held_out_bits(
    model: str | None, scheme: str | None, texts: Sequence[TextFile]
) -> tuple[float, str]:
    """Bits per byte, and the precision that they were computed in."""
    llm = LLM(model, quantize=scheme, packed_cache=False)
    assert llm.tokenizer is not None, "The model has no tokenizer.json to encode the text with."
    result = bits_per_byte(llm.logits, llm.tokenizer.encode, texts)
    return result.value, llm.info.precision


def main() -> None:
    parser = argparse.ArgumentParser(description="Bits per byte of rounded weights.")
    parser.add_argument("--model", help="left out, the bundled model")
    parser.add_argument("--schemes", nargs="+", default=SCHEMES, help="as --quantize takes them")
    parser.add_argument("--files", type=int, help="only so many files of the held-out text")
    given = parser.parse_args()
    texts = held_out_files()[: given.files]
    plain, precision = held_out_bits(given.model, None, texts)
    print(f"{precision}: {plain:.5f}", file=sys.stderr)
    schemes = {}
    for scheme in given.schemes:
        bits, precision = held_out_bits(given.model, scheme, texts)
        schemes[scheme] = {"bits_per_byte": bits, "cost": bits / plain - 1}
        print(f"{precision}: {bits:.5f} ({bits / plain - 1:+.2%})", file=sys.stderr)
    num_bytes = sum(text.num_bytes for text in texts)
    print(json.dumps({"bytes": num_bytes, "bits_per_byte": plain, "schemes": schemes}))


if __name__ == "__main__":
    main()
