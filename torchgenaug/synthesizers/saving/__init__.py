"""Saves synthesizers to folders of safetensors and JSON, and loads them."""
