"""Mixed precision: which linear gets how many bits, under a budget of bytes.

The multiple-choice knapsack, solved exactly as an integer program: each linear has one scheme, the
bytes fit the budget, and the sum of what each choice costs by itself is the least.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vivace.core.errors import UsageError


def allocate(
    costs: Sequence[Sequence[float]], sizes: Sequence[Sequence[int]], budget: int
) -> list[int]:
    """The choice for each item.

    Args:
        costs, sizes: of each item's choices; sizes in bytes.

    Raises:
        UsageError: nothing fits the budget, or scipy is not installed.
    """
    least = sum(min(each) for each in sizes)
    if least > budget:
        raise UsageError(
            f"The smallest choice for everything takes {least:,} bytes, more than {budget:,}: "
            "give more bits, or schemes with fewer."
        )
    try:
        from scipy.optimize import Bounds, LinearConstraint, milp
    except ImportError:
        raise UsageError(
            "Mixed precision needs scipy: install it with pip install 'vivace[optimize]'."
        ) from None
    owners = np.repeat(np.arange(len(costs)), [len(each) for each in costs])
    one_each = owners[None, :] == np.arange(len(costs))[:, None]
    flat_sizes = np.concatenate([np.asarray(each, np.float64) for each in sizes])
    flat_costs = np.concatenate([np.asarray(each, np.float64) for each in costs])
    constraints = [
        LinearConstraint(one_each.astype(np.float64), 1, 1),
        LinearConstraint(flat_sizes[None, :] / budget, -np.inf, 1),
    ]
    scale = max(float(np.abs(flat_costs).max()), np.finfo(np.float64).tiny)
    found = milp(
        flat_costs / scale,
        integrality=np.ones(len(owners)),
        bounds=Bounds(0, 1),
        constraints=constraints,
        options={"mip_rel_gap": 0},
    )
    if found.x is None:
        raise UsageError(f"No mix of schemes was found ({found.message}).")
    chosen = np.flatnonzero(found.x > 0.5)
    starts = np.searchsorted(owners, np.arange(len(costs)))
    return [int(place) for place in chosen - starts]
