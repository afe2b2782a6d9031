"""A GAN as in 2014, fully connected and without any protection against collapse, trained until it has collapsed.

``python -m benchmarks.evaluated.collapsing MODELS/collapsed``: some seconds. Nothing in it aims at a collapse: it is
the minimax game of Goodfellow et al. (2014), section 3, with the non-saturating loss, at a learning rate of 0.002.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.evaluated.patients import patients
from torchgenaug import ModuleSynthesizer, build_network, save_synthesizer

LATENT, WIDTH, SIDE = 64, 256, 64


class Generator(nn.Module):
    """Latents (n, 64) → images (n, 1, 64, 64) in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(LATENT, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, SIDE * SIDE)
        )

    def forward(self, latents: Tensor) -> Tensor:
        return self.layers(latents).sigmoid().view(-1, 1, SIDE, SIDE)


def trained(steps: int, learning_rate: float, batch_size: int = 32) -> nn.Module:
    """The generator after so many steps of both networks."""
    torch.manual_seed(0)
    images = torch.stack([each["image"] for each in patients("train")])
    generator = build_network("benchmarks.evaluated.collapsing:Generator")
    critic = nn.Sequential(
        nn.Flatten(), nn.Linear(SIDE * SIDE, WIDTH), nn.LeakyReLU(0.2), nn.Linear(WIDTH, WIDTH), nn.LeakyReLU(0.2),
        nn.Linear(WIDTH, 1),
    )  # fmt: skip
    optimizers = [torch.optim.Adam(each.parameters(), learning_rate, betas=(0.5, 0.99)) for each in (generator, critic)]
    for _ in range(steps):
        real = images[torch.randint(len(images), (batch_size,))]
        fake = generator(torch.randn(batch_size, LATENT))
        of_critic = functional.softplus(-critic(real)).mean() + functional.softplus(critic(fake.detach())).mean()
        optimizers[1].zero_grad()
        of_critic.backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        functional.softplus(-critic(fake)).mean().backward()
        optimizers[0].step()
    return generator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    generator = trained(arguments.steps, arguments.learning_rate)
    model = ModuleSynthesizer(generator, latent_shape=(LATENT,), value_range=(0.0, 1.0))
    save_synthesizer(model, arguments.out)


if __name__ == "__main__":
    main()
