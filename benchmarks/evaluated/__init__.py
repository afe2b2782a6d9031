"""Synthetic sets whose fault is known, judged by `torchgenaug.trust.evaluate`.

A good model, a blurred one, a collapsed one, one that memorised, and real images that pose as synthetic: ``python -m
benchmarks.evaluated --help``.
"""
