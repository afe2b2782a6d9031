"""One command for a machine with a GPU: all that only a GPU can show, in order of value, within a few minutes.

``python -m benchmarks.gpu --out DIR --minutes 9`` runs the steps of `steps.STEPS`, each in a process of its own with a
limit of its own, and keeps each result in ``DIR/results.json`` as soon as it is there. ``--pack DIR`` collects the
packages that a bare image with PyTorch lacks; ``--device cpu --tiny`` runs everything in a small version.
"""
