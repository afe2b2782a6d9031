"""Features of the user's own network."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError, FieldMismatchError
from torchgenaug.metrics.features.weights import checked_state_dict
from torchgenaug.synthesizers.parts.fingerprints import module_digest


class NetworkFeatures:
    """Features computed by a network, averaged over the spatial positions of what it returns.

    The network is put into evaluation mode and its parameters are left as they are. Images arrive as
    (batch, channels, *spatial) float32 in [0, 1]: a network that wants another scaling brings it as its first layer.

    Args:
        network: maps images to (batch, features) or (batch, features, *spatial).
        name: what stands in results, as in ``FID[name]``; say which network, trained on what.
        device: where it runs; by default where its parameters are.

    Raises:
        ConfigurationError: `network` is no ``nn.Module``, or `name` is empty.

    Example:
        >>> from torch import nn
        >>> features = NetworkFeatures(nn.Conv2d(1, 8, 3), name="untrained-conv")
        >>> features(torch.zeros(2, 1, 16, 16)).shape
        torch.Size([2, 8])
    """

    standardize = False

    def __init__(self, network: nn.Module, *, name: str, device: torch.device | str | None = None) -> None:
        if not isinstance(network, nn.Module):
            raise ConfigurationError(
                f"`network` must be a torch.nn.Module, got {type(network).__name__}. A function fits in a module whose "
                "forward calls it."
            )
        if not name or "[" in name or "]" in name:
            raise ConfigurationError(
                f"`name` must be a word without brackets, got {name!r}. It stands in the results, as in FID[name]."
            )
        if any(each.is_meta for each in (*network.parameters(), *network.buffers())):
            raise ConfigurationError(
                "`network` must have weights, got parameters on the device 'meta', which holds none. Nothing can be "
                "computed. Load them: NetworkFeatures.from_weights(network.to_empty(device='cpu'), path, name=...)."
            )
        parameter = next(network.parameters(), None)
        self._dtype = parameter.dtype if parameter is not None and parameter.is_floating_point() else None
        self._device = (
            torch.device(device) if device is not None else parameter.device if parameter is not None else None
        )
        self._network = network.to(self._device).eval() if self._device is not None else network.eval()
        self.name = name
        self.sha256 = module_digest(network)

    @classmethod
    def from_weights(
        cls,
        network: nn.Module,
        path: str | Path,
        *,
        name: str,
        sha256: str | None = None,
        device: torch.device | str | None = None,
    ) -> NetworkFeatures:
        """The same with weights from a file, for example a medical backbone: nothing in the file is executed.

        Args:
            network: a network of the file's architecture; its weights are replaced, every one of them.
            path: ``.safetensors``, or a state dict written by ``torch.save`` (read with ``weights_only=True``).
            name: as above.
            sha256: expected hash of the file's bytes; None: not checked.
            device: as above.

        Raises:
            SynthesizerLoadError: no such file, another hash, or weights that do not fit `network`.
        """
        network.load_state_dict(checked_state_dict(path, network, sha256=sha256))
        return cls(network, name=name, device=device)

    def __call__(self, images: Tensor) -> Tensor:
        """(batch, channels, *spatial) in [0, 1] → (batch, features)."""
        self._network.eval()  # the user's own object: a training loop may have switched it back
        output = self._network(images.to(device=self._device, dtype=self._dtype))
        if not isinstance(output, Tensor):
            raise FieldMismatchError(
                f"`network` of features {self.name!r} must return a tensor, got {type(output).__name__}. Wrap it in a "
                "module that selects one."
            )
        return output.flatten(2).mean(2) if output.ndim > 2 else output
