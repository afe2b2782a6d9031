"""Synthesizers on any `torch.nn.Module`: GAN generators, decoders, image-to-image networks."""
