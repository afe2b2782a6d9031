"""Networks conditioned on text: Stable Diffusion's parts and the encoding of prompts."""
