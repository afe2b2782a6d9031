"""Synthesizers on variational autoencoders of pythae."""
