"""The steps, in order of value: what is lost when the minutes are over is lost from the end."""

from __future__ import annotations

from typing import NamedTuple


class Step(NamedTuple):
    """A question that a GPU answers.

    Attributes:
        name: module of this package with a function ``measure(settings, record)``.
        limit_s: seconds after which it is ended.
        question: what it finds out.
    """

    name: str
    limit_s: float
    question: str


STEPS = (
    Step("smoke", 100, "Does every synthesizer class run on the device, and make the samples of the CPU?"),
    Step("suite", 150, "Do the tests marked `gpu` pass?"),
    Step("mixing", 60, "What does SyntheticMixLoader with a full pool cost a training loop?"),
    Step("refresh", 90, "How much of the generation is hidden behind the training?"),
    Step("generator", 130, "How fast is DiffusersSynthesizer against diffusers' pipeline, with each option?"),
    Step("loops", 45, "How does a pool compare with a sample per __getitem__ and a batch per step?"),
    Step("memory", 60, "Do offloading, the memory limit and smaller calls after running out of memory work?"),
    Step("volumes", 60, "How fast is 3D latent diffusion of MONAI, against MONAI's own inferer?"),
    Step("training", 60, "How fast does fit train, against diffusers' training script?"),
)
TOGETHER = ("smoke", "suite")
"""Steps that measure no time: they run at the same time."""
