"""The ops in plain differentiable PyTorch, on any of its devices (extra `[torch]`)."""

from __future__ import annotations

from vivace.backends.torch.backend import TorchBackend

__all__ = ["TorchBackend"]
