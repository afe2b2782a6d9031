"""Measures of label maps: overlap and distance of segmentations, and intensities within labels."""
