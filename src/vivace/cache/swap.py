"""When a page that has to go is worth keeping."""

from __future__ import annotations


def swap_is_cheaper(
    num_bytes: int, bytes_per_second: float, num_tokens: int, seconds_per_token: float
) -> bool:
    """Whether copying pages out and in again takes less time than computing their tokens again."""
    return 2 * num_bytes / bytes_per_second < num_tokens * seconds_per_token
