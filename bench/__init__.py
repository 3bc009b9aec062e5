"""Benchmarks: every figure is measured beside its yardstick, on this machine, in the same minute."""
