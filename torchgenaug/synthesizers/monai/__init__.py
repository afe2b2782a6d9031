"""Synthesizers on networks of MONAI, in 2D and 3D, and its bundles."""
