"""Options of GAN families against their bases, and stripes of generated volumes: ``python -m benchmarks.gans``."""
