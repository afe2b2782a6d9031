"""Benchmarks: one question a file, peers in the same rounds, losses published. Run all with ``python -m benchmarks``."""
