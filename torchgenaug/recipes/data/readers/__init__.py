"""Readers: one image file → its pixels, channels first, in the unit that the file states."""
