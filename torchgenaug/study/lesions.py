"""The study ``lesions``: few slices with a lesion, many healthy ones. Does drawing lesions into the healthy ones help?

The generator is a translator from a slice with a hole to the slice with a lesion in it, trained on the few lesions and
used on healthy slices, with new places and outlines (Chen et al., 2024); outlines are ellipse-like, not those of the
simulation. The control without a generator copies the few lesions into healthy slices, at new places (Zhang et al.,
2021, who keep the place). **Lesions are simulated**: see `torchgenaug.datasets.lesions`.

References:
    Chen et al. (2024). Towards generalizable tumor synthesis. CVPR (DiffTumor).
    Zhang et al. (2021). CarveMix: a simple data augmentation method for brain lesion segmentation. MICCAI.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchgenaug.datasets.lesions import brain_slices, draw_lesion
from torchgenaug.datasets.outlines import draw_outline
from torchgenaug.errors import ConfigurationError
from torchgenaug.recipes.data.training_data import TensorSamples, TrainingData
from torchgenaug.recipes.options import Options
from torchgenaug.seeding import derive
from torchgenaug.study.arms import Arm, mixed, oracle, real_repeated, real_transformed
from torchgenaug.study.elastic import BatchElastic
from torchgenaug.study.extent import Extent
from torchgenaug.study.generators import alone, train_generator
from torchgenaug.study.segmentation import Segmentation
from torchgenaug.study.slices import Slices
from torchgenaug.study.splits import Split
from torchgenaug.study.study import Study
from torchgenaug.study.transforms import BatchAffine
from torchgenaug.types import FieldSpec

_FIELDS = ("image", "mask")
_FOUND = 0.25  # of the pixels of a lesion
_TRUE, _NEW, _PASTED, _TRUE_HELD_OUT = 1, 2, 3, 4  # streams of random numbers


@dataclass(frozen=True)
class Lesions:
    """Settings of the study.

    Attributes:
        labelled: slices with a lesion and its mask.
        inpainter_steps: training steps of pix2pix, on these slices.
        steps: optimizer steps of the segmenter.
        seeds: of the segmenter.
        batch_size: of the segmenter.
        lengths: see `Extent`.
    """

    labelled: int = 8
    inpainter_steps: int = 400
    steps: int = 300
    seeds: int = 5
    batch_size: int = 4
    lengths: tuple[int, ...] = (1,)

    def build(self, out: Path, name: str) -> Study:
        """The study; its inpainter is trained in `out` when it is first needed."""
        images, tissues, ids = brain_slices("train")
        if not 2 <= self.labelled <= len(images) // 4:
            raise ConfigurationError(
                f"`labelled` must be between 2 and {len(images) // 4}, got {self.labelled}. Most slices are needed "
                "healthy. Try 8."
            )
        few = [k * len(images) // self.labelled for k in range(self.labelled)]
        healthy = [k for k in range(len(images)) if k not in few]
        train = _drawn(images[few], tissues[few], [ids[k] for k in few], _TRUE)
        held_images, held_tissues, held_ids = brain_slices("held_out")
        half = len(held_images) // 2
        parts = [
            _drawn(held_images[part], held_tissues[part], held_ids[part], _TRUE_HELD_OUT)
            for part in (slice(0, half), slice(half, None))
        ]
        split = Split("all", train, *parts)
        free_images, free_tissues, free_ids = images[healthy], tissues[healthy], [ids[k] for k in healthy]
        true = _drawn(free_images, free_tissues, free_ids, _TRUE)
        pasted = _pasted(train, free_images, free_tissues, free_ids)
        empty = Slices(free_images, torch.zeros_like(free_tissues), free_ids)

        @functools.cache
        def inpainted() -> Slices:
            return self._inpaint(train, free_images, free_tissues, free_ids, out)

        affine = BatchAffine()
        mix: dict[str, Any] = {"fields": _FIELDS, "transform": affine}
        controls = [
            mixed(empty, 0.5, name="healthy slices 50%, affine", **mix),
            mixed(pasted, 0.5, name="copied lesions 50%, affine", **mix),
            mixed(pasted, 1.0, name="copied lesions only, affine", **mix),
        ]
        arms: list[Arm] = [
            real_repeated("lesions repeated"),
            real_transformed(affine, "lesions, affine"),
            real_transformed(BatchElastic(), "lesions, affine and elastic"),
            *(Arm(arm.name, "control", arm.build, arm.source, arm.settings) for arm in controls),
            mixed(lambda split: inpainted(), 0.5, name="pix2pix 50%, affine", **mix),
            mixed(lambda split: inpainted(), 1.0, name="pix2pix only, affine", **mix),
            oracle(lambda split: true, affine, "oracle: lesions of the simulation, affine"),
        ]
        task = Segmentation(2, width=8, batch_size=self.batch_size, learning_rate=6e-3)
        return Study(
            split,
            arms,
            task.train,
            functools.partial(lesion_measures, task),
            steps=self.steps,
            seeds=self.seeds,
            metric="lesion Dice",
            name=name,
            extent=Extent(lengths=self.lengths),
        )

    def _inpaint(self, few: Slices, images: Tensor, tissues: Tensor, ids: Sequence[str], out: Path) -> Slices:
        unit, shape = (0.0, 1.0), tuple(images.shape[1:])
        data = TrainingData(
            TensorSamples({"image": few.images, "source": with_hole(few.images, few.masks)}),
            {
                "image": FieldSpec(shape, value_range=unit),
                "source": FieldSpec((2, *shape[1:]), value_range=unit),
            },
            tuple(few.ids),
            "slices with a lesion",
        )
        folder = out / "generators" / "pix2pix"
        with alone(folder):
            recipe = Options(condition="source", steps=self.inpainter_steps)
            fitted = train_generator("pix2pix", data, folder / "model", recipe, device="cpu", rotate=1)
        outlines = torch.stack(
            [draw_outline(int(derive(_NEW, k)) >> 1, tissue, roughness=0.15) for k, tissue in enumerate(tissues)]
        )
        masks = (outlines > 0.5).long()
        made = fitted.synthesizer.synthesize(range(len(images)), {"source": with_hole(images, masks)})["image"]
        inside = functional.max_pool2d(outlines, 3, stride=1, padding=1)
        slices = Slices(torch.lerp(images, made.clamp(0, 1), inside), masks, ids)
        slices.trained_on = fitted.synthesizer.trained_on
        return slices


def lesion_measures(task: Segmentation, model: nn.Module, data: Slices) -> dict[str, float]:
    """``lesion Dice`` over all pixels, and ``lesions found``: how many, of which a quarter of the pixels is found.

    Args:
        task: of two classes.
        model: of `Segmentation.train`.
        data: slices with one lesion each.
    """
    found = task.probabilities(model, data).argmax(1, keepdim=True)
    covered = (found * data.masks).flatten(1).sum(1) >= _FOUND * data.masks.flatten(1).sum(1)
    return {"lesion Dice": task.score(model, data), "lesions found": float(covered.float().mean())}


def with_hole(images: Tensor, masks: Tensor) -> Tensor:
    """(n, 2, height, width): the image, 0 in the mask and one pixel around it, and the mask."""
    hole = functional.max_pool2d(masks.float(), 3, stride=1, padding=1)
    return torch.cat([images * (1 - hole), masks.float()], 1)


def _drawn(images: Tensor, tissues: Tensor, ids: Sequence[str], stream: int) -> Slices:
    """Slices with lesions of the simulation."""
    pairs = [
        draw_lesion(int(derive(stream, k)) >> 1, image, tissue)
        for k, (image, tissue) in enumerate(zip(images, tissues, strict=True))
    ]
    return Slices(torch.stack([image for image, _ in pairs]), torch.stack([mask for _, mask in pairs]), ids)


def _pasted(few: Slices, images: Tensor, tissues: Tensor, ids: Sequence[str]) -> Slices:
    """Healthy slices with a copy of one of the few lesions, turned or mirrored, with a margin, at a new place."""
    out_images, out_masks = [], []
    for k, (image, tissue) in enumerate(zip(images, tissues, strict=True)):
        draw = torch.Generator().manual_seed(int(derive(_PASTED, k)) >> 1)
        which, turns, mirrored, margin = (int(torch.randint(n, (1,), generator=draw)) for n in (len(few), 4, 2, 3))
        lesion, mask = (torch.rot90(each[which], turns, (1, 2)) for each in (few.images, few.masks))
        if mirrored:
            lesion, mask = lesion.flip(2), mask.flip(2)
        places = (tissue[0] == int(tissue.max())).nonzero()
        to = places[int(torch.randint(len(places), (1,), generator=draw))]
        shift = tuple((to - mask[0].nonzero().float().mean(0).round().long()).tolist())
        lesion, mask = (torch.roll(each, shift, (1, 2)) for each in (lesion, mask))
        region = functional.max_pool2d(mask.float(), 2 * margin + 1, stride=1, padding=margin)
        out_images.append(torch.lerp(image, lesion, region))
        out_masks.append(mask)
    return Slices(torch.stack(out_images), torch.stack(out_masks), ids)
