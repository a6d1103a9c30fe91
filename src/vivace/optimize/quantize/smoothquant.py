"""SmoothQuant: Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for
Large Language Models" (2022).

Where activations are rounded too, channels of outliers leave all others few codes. Their size is
moved into the weights: x / s and s * w multiply to the same.
"""

from __future__ import annotations

import numpy as np

from vivace.optimize.quantize.grid import Floats

MIGRATION = 0.5
_LEAST = np.float32(1e-5)


def smooth_scales(x_max: Floats, w_max: Floats, migration: float = MIGRATION) -> Floats:
    """[in]: max|x| ** migration / max|w| ** (1 - migration); 1 where either is always zero.

    Args:
        x_max: [in], the largest magnitude of each input.
        w_max: [in], that of each input's weights, over all linears that read it.
    """
    power = np.float32(migration)
    scales = np.maximum(x_max, _LEAST) ** power / np.maximum(w_max, _LEAST) ** (1 - power)
    silent = (x_max == 0) | (w_max == 0)
    result: Floats = np.where(silent, np.float32(1), np.maximum(scales, _LEAST))
    return result
