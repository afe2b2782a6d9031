"""Networks of our own, where neither diffusers nor MONAI nor pythae has them; `build_network` makes them from JSON."""

from __future__ import annotations

from torchgenaug.nets.gan import DCGANGenerator

__all__ = ["DCGANGenerator"]
