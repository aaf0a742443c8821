"""Benchmarks: contenders side by side in one run, each in a process of its own. `gpunet bench` runs them."""
