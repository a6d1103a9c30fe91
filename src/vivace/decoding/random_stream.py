"""The random numbers of a request: a pure function of who it is and which token is drawn."""

from __future__ import annotations

from hashlib import blake2b

from vivace.core.request import Request


def uniform(request: Request, position: int, default_seed: int) -> float:
    """A number in [0, 1) for the token at `position` of the request's sequence.

    The draw is a hash used as a counter-based generator (Salmon et al., "Parallel random numbers:
    as easy as 1, 2, 3", 2011), so it depends on nothing else: not on the batch, on earlier draws
    or on a preemption. Without a seed of its own a request's stream comes from `default_seed` and
    its unique id; with one, from the seed and its place among the caller's n completions.
    """
    seed = request.params.seed
    stream = f"id/{default_seed}/{request.request_id}"
    if seed is not None:
        stream = f"seed/{seed}/{request.index}"
    digest = blake2b(f"{stream}/{position}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53
