"""What the benchmarks of scheduling and the KV cache share: engines, a driver, figures."""
