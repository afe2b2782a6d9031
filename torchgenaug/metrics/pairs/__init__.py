"""Measures of an image against the one reference that it should equal: translation, inpainting, reconstruction."""
