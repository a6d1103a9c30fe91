"""How far a student's next tokens are from its teacher's.

Hinton et al., "Distilling the Knowledge in a Neural Network" (2015), over the whole vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), the mean over rows, in nats.

    The factor keeps gradients at their size whatever the temperature. No gradient reaches the
    teacher.

    Args:
        student, teacher: float32 logits [rows, vocab] after the same tokens.
    """
    found = F.log_softmax(student / temperature, dim=-1)
    wanted = F.log_softmax(teacher.detach() / temperature, dim=-1)
    divergence = F.kl_div(found, wanted, reduction="batchmean", log_target=True)
    return divergence * temperature**2


def next_token_loss(logits: Tensor, token_ids: Tensor) -> Tensor:
    """-ln p of each run's next token, the mean, in nats: how a model is trained without a teacher.

    Args:
        logits: float32 [runs * length, vocab].
        token_ids: int64 [runs, length].
    """
    runs, length = token_ids.shape
    ahead = logits.view(runs, length, -1)[:, :-1]
    targets = token_ids[:, 1:].reshape(-1)
    loss: Tensor = F.cross_entropy(ahead.flatten(0, 1), torch.as_tensor(targets))
    return loss
