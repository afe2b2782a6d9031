"""Measures of a synthetic against a real set of feature vectors, and the comparison that gives them intervals."""
