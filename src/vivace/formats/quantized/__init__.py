"""Checkpoints of matrices that others have quantized: compressed-tensors, GPTQ, AWQ."""
