"""Networks that fill what is hidden of an image, and keep what is given: missing modalities, cut-out regions.

Their input has the channels of the image, and behind them marks of the same range: the upper end where something is
hidden, the lower end where it is given. The output has every given value to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torchgenaug.errors import ConfigurationError
from torchgenaug.nets.translation import TranslationUNet


class ModalityUNet(nn.Module):
    """Fills the missing channels of an image of several modalities from any that are there, by one U-Net.

    Sharma, Hamarneh (2020), "Missing MRI pulse sequence synthesis using multi-modal generative adversarial network",
    IEEE Transactions on Medical Imaging 39, 1170: missing channels are constant at the entrance, and one generator
    serves every subset. Here the marks say which they are, since a constant image may be a real one.

    Args:
        shape: (modalities, *spatial) of an image, 2D or 3D, at least two modalities.
        width: as in `TranslationUNet`.
        value_range: the images' intensities, and the range of the marks.
    """

    def __init__(self, *, shape: Sequence[int], width: int = 32, value_range: Sequence[float] = (-1.0, 1.0)) -> None:
        super().__init__()
        if shape[0] < 2:
            raise ConfigurationError(
                f"`shape` must have at least two modalities, got {tuple(shape)}. There is nothing to fill one from."
            )
        self.channels = shape[0]
        self.low, self.high = value_range
        self.translate = TranslationUNet(
            in_channels=2 * shape[0], shape=shape, width=width, value_range=value_range, source_range=value_range
        )

    def forward(self, given: Tensor) -> Tensor:
        """Images (batch, modalities, *spatial) of modalities and marks (batch, 2 · modalities, *spatial).

        Raises:
            ConfigurationError: a sample without any modality, or that lacks none (not looked for inside of CUDA
                graphs).
        """
        values, hidden = split_marks(given, self.channels, self.low, self.high)
        if not captured(given):
            empty = hidden.flatten(1).all(1)
            if bool(empty.any()):
                raise ConfigurationError(
                    "`source` must have at least one modality that is present in every sample, got none at position "
                    f"{int(empty.nonzero()[0, 0])}. There is nothing to translate from. Leave such samples out."
                )
            whole = ~hidden.flatten(1).any(1)
            if bool(whole.any()):
                raise ConfigurationError(
                    "`source` must mark a missing modality in every sample, got none at position "
                    f"{int(whole.nonzero()[0, 0])}. The sample would be the real image. A mark is {self.high:g} where "
                    f"something is missing, else {self.low:g}. See FillMissing."
                )
        made = self.translate(torch.cat([torch.where(hidden, self.low, values), given[:, self.channels :]], 1))
        return torch.where(hidden, made, values.clamp(self.low, self.high))


def split_marks(given: Tensor, channels: int, low: float, high: float) -> tuple[Tensor, Tensor]:
    """The values (batch, channels, *spatial), and where they are hidden, bool (batch, further channels, *spatial)."""
    return given[:, :channels], given[:, channels:] > (low + high) / 2


def captured(values: Tensor) -> bool:
    """Whether this call is compiled or recorded as a CUDA graph, where no value can be looked at."""
    return torch.compiler.is_compiling() or (values.is_cuda and torch.cuda.is_current_stream_capturing())
