"""Copies of training images, duplicates, and images that two sets share.

``spectrum``, ``blocks`` and ``noise`` (the descriptors) · ``registration`` (images compared after a shift) ·
``describe`` (a set) · ``search`` and ``gallery`` (the nearest images) · ``calibration`` (p-values) · ``detector`` ·
``screen`` · ``report`` · ``spacing`` and ``duplicates``.
"""
