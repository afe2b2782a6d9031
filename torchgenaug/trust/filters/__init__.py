"""Keeping the good part of the synthetic samples: rules that score each sample, and `keep`, which applies one.

``rules`` (scores by networks, segmenters, copies) · ``realism`` (scores by features of real images) · ``keep`` ·
``coverage`` (a varied selection).
"""
