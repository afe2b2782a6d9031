"""Benchmarks: one question a file, peers in the same rounds, losses published. All: ``python -m benchmarks``."""
