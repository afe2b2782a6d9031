"""Tasks take their steps in 2D and 3D, with MONAI's networks and Lightning; measures have known values."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from study_helpers import CLASSES, FIELDS, Images, score, study
from torch.utils.data import TensorDataset

from torchgenaug.study import Classification, LightningTraining, Segmentation, Translation, mixed, real_repeated
from torchgenaug.study.networks import monai_densenet, monai_unet


class Fixed(torch.nn.Module):
    """Gives logits that are in the images."""

    def forward(self, images):
        return images.flatten(1)


def test_measures_of_two_classes_are_those_of_class_one():
    logits = torch.tensor([[2.0, 0.0], [2.0, 1.0], [0.0, 1.0], [0.0, 2.0], [1.0, 0.0]])
    data = TensorDataset(logits[:, None, None], torch.tensor([0, 0, 0, 1, 1]))
    found = Classification(2).measures(Fixed(), data)
    assert found == {
        "accuracy": pytest.approx(3 / 5),
        "balanced accuracy": pytest.approx((2 / 3 + 1 / 2) / 2),
        "AUC": pytest.approx(4.5 / 6),  # a tie counts half
        "sensitivity": pytest.approx(1 / 2),
        "specificity": pytest.approx(2 / 3),
    }


def test_measures_of_one_class_are_undefined_and_of_several_a_mean():
    logits = torch.eye(3)[[0, 1, 2, 2]]
    alone = Classification(3).measures(Fixed(), TensorDataset(logits[:1, None, None], torch.tensor([0])))
    assert alone["accuracy"] == 1
    assert math.isnan(alone["AUC"])
    found = Classification(3).measures(Fixed(), TensorDataset(logits[:, None, None], torch.tensor([0, 1, 2, 0])))
    assert found["balanced accuracy"] == found["sensitivity"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert found["specificity"] == pytest.approx((1 + 1 + 2 / 3) / 3)


@pytest.mark.parametrize("dims", [2, 3])
def test_segmentation_and_classification_in_2d_and_3d(dims):
    spatial = [16] * dims
    masks = torch.zeros(4, 1, *spatial, dtype=torch.int64)
    masks[:, :, :8] = 1
    data = [{"image": mask.float(), "mask": mask, "label": torch.tensor(k % 2)} for k, mask in enumerate(masks)]
    for network in (None, monai_unet):
        task = Segmentation(2, width=4, batch_size=2, dims=dims, network=network, learning_rate=0.02)
        found = task.measures(task.train(data, 0, 12), data)
        assert found["mean Dice"] > 0.5
        assert -16 * math.sqrt(dims) <= found["-Hausdorff 95"] <= 0
    assert task.probabilities(task.train(data, 0, 1), data).shape == (4, 2, *spatial)
    for network in (None, monai_densenet):
        classifier = Classification(2, width=4, batch_size=2, dims=dims, network=network)
        assert 0 <= classifier.score(classifier.train(data, 0, 1), data) <= 1


def test_translation_is_scored_by_psnr_ssim_and_downstream_dice():
    pytest.importorskip("torchmetrics")
    masks = torch.zeros(4, 1, 16, 16, dtype=torch.int64)
    masks[:, :, 4:12, 4:12] = 1
    data = [{"source": 1 - mask.float(), "image": mask.float(), "mask": mask} for mask in masks]
    segmenter = Segmentation(2, width=4, batch_size=2, learning_rate=0.02)
    network = segmenter.train(data, 0, 12)
    task = Translation(width=4, batch_size=2, learning_rate=0.02)
    measures = functools.partial(task.measures, segmentation=(segmenter, network))
    early, late = (measures(task.train(data, 0, steps), data) for steps in (1, 20))
    assert early.keys() == {"PSNR", "SSIM", "downstream Dice"}
    assert late["PSNR"] > early["PSNR"]
    assert late["SSIM"] > early["SSIM"]


@pytest.mark.filterwarnings(
    "ignore:.*LeafSpec.* is deprecated:FutureWarning",
    "ignore:.*does not have many workers:UserWarning",
    "ignore:.*num_workers.*:UserWarning",
    "ignore:'set_vital' is deprecated:UserWarning",
)
def test_a_lightning_module_is_trained_for_the_same_steps(tmp_path):
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(64, CLASSES)

        def forward(self, images):
            return self.layer(images.flatten(1))

        def training_step(self, batch, index):
            return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    arms = [real_repeated(), mixed(Images(30, 7), 0.5, fields=FIELDS)]
    train = LightningTraining(Module, batch_size=4)
    summary = study(arms, train=train, score=score, steps=5).run(tmp_path)
    assert summary["arms"]["mix 50%"]["runs"] == 3
