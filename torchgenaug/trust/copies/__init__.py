"""Copies of training images, duplicates, and images that two sets share.

``spectrum`` and ``blocks`` (the descriptors) · ``describe`` (a set, and the exact search in it) · ``calibration``
(p-values) · ``detector`` · ``report`` · ``duplicates``.
"""
