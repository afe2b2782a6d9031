"""The steps, in order of value: what is lost when the minutes are over is lost from the end."""

from __future__ import annotations

from typing import NamedTuple


class Step(NamedTuple):
    """A question that a GPU answers.

    Attributes:
        name: module of this package with a function ``measure(settings, record)``.
        limit_s: seconds after which it is ended.
        question: what it finds out.
        only_if_named: whether it runs only where ``--only`` names it.
    """

    name: str
    limit_s: float
    question: str
    only_if_named: bool = False


STEPS = (
    Step("smoke", 100, "Does every synthesizer class run on the device, and make the samples of the CPU?"),
    Step("suite", 150, "Do the tests marked `gpu` pass?"),
    Step("mixing", 60, "What does SyntheticMixLoader with a full pool cost a training loop?"),
    Step("refresh", 110, "How much of the generation is hidden behind the training?"),
    Step("generator", 70, "How fast is DiffusersSynthesizer against diffusers' pipeline, with each option?"),
    Step("loops", 50, "How does a pool compare with a sample per __getitem__ and a batch per step?"),
    Step("memory", 60, "Do offloading, the memory limit and smaller calls after running out of memory work?"),
    Step("volumes", 60, "How fast is 3D latent diffusion of MONAI, against MONAI's own inferer?"),
    Step("training", 110, "How fast does fit train, against diffusers' training script?"),
    Step("compiled", 110, "What does compilation add, which takes its time?"),
    Step("everything", 280, "Do all tests pass here, where the default device is a GPU?", only_if_named=True),
)
TOGETHER = ("smoke", "suite")
"""Steps that measure no time: they run at the same time."""
