"""Synthesizers on networks of diffusers: U-Nets, transformers (DiT), Stable Diffusion."""
