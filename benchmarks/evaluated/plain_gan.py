"""A GAN without anything that keeps one from collapsing, trained until it has collapsed by itself.

The original game (Goodfellow et al. 2014) with the package's networks: no gradient penalty, no view of the batch for
the critic, no augmentation, and a generator that learns faster than its critic. ``torchgenaug fit dcgan`` has all of
these protections, and did not collapse in any run of ours::

    python -m benchmarks.evaluated.plain_gan MODELS/collapsed
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch.nn import functional

from benchmarks.evaluated.patients import patients
from torchgenaug import ModuleSynthesizer, build_network, save_synthesizer

LATENT, SIZE = 32, (1, 64, 64)


def trained(steps: int, *, generator_rate: float, critic_rate: float, seed: int = 0) -> ModuleSynthesizer:
    """The generator after so many steps of 32 images, as it then is."""
    torch.manual_seed(seed)
    images = torch.stack([each["image"] for each in patients("train")])
    generator = build_network(
        "torchgenaug:DCGANGenerator", latent_dim=LATENT, shape=list(SIZE), width=16, value_range=[0.0, 1.0]
    )
    critic = build_network("torchgenaug:Critic", shape=list(SIZE), width=16)
    rates = ((generator, generator_rate), (critic, critic_rate))
    optimizers = [torch.optim.Adam(network.parameters(), lr=rate, betas=(0.5, 0.99)) for network, rate in rates]
    for step in range(steps):
        real = images[torch.randint(0, len(images), (32,))]
        fake = generator(torch.randn(32, LATENT))
        loss = functional.softplus(-critic(real)[0]).mean() + functional.softplus(critic(fake.detach())[0]).mean()
        optimizers[1].zero_grad()
        loss.backward()
        optimizers[1].step()
        fooled = functional.softplus(-critic(fake)[0]).mean()
        optimizers[0].zero_grad()
        fooled.backward()
        optimizers[0].step()
        if step % 100 == 99:
            spread = float(fake.detach().std(0).mean() / images.std(0).mean())
            print(
                f"step {step + 1}: critic {float(loss):.2f}, generator {float(fooled):.2f}, spread {spread:.2f} of real"
            )
    return ModuleSynthesizer(generator.eval(), latent_shape=(LATENT,), value_range=(0.0, 1.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--generator-rate", type=float, default=2e-3)
    parser.add_argument("--critic-rate", type=float, default=2e-4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = trained(arguments.steps, generator_rate=arguments.generator_rate, critic_rate=arguments.critic_rate)
    save_synthesizer(model, arguments.out)


if __name__ == "__main__":
    main()
