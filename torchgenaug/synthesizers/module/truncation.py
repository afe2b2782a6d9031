"""`truncated`: a style-based GAN with less variety and more typical images."""

from __future__ import annotations

from typing import Any

from torchgenaug.contracts import Stored
from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.module.synthesizer import ModuleSynthesizer
from torchgenaug.synthesizers.parts.blueprints import build_network
from torchgenaug.synthesizers.parts.building import Construction


def truncated(synthesizer: object, truncation: float) -> ModuleSynthesizer:
    """The same model, sampled with styles that keep `truncation` of their distance to the mean style.

    Args:
        synthesizer: one of a network that can be truncated: what ``torchgenaug fit stylegan2`` trains.
        truncation: in [0, 1]: 1 keeps all variety, 0 makes one image (of each class); 0.7 is usual.

    Returns:
        A new synthesizer with a fingerprint of its own; the given one stays as it is.

    Raises:
        ConfigurationError: another model, or a number outside [0, 1].

    References:
        Karras, Laine, Aila (2019). A style-based generator architecture for generative adversarial networks. CVPR,
        appendix B.
    """
    blueprint: Any = getattr(getattr(synthesizer, "module", None), "blueprint", {})
    if not isinstance(synthesizer, ModuleSynthesizer) or not hasattr(synthesizer.module, "truncation"):
        raise ConfigurationError(
            f"`truncation` must be left out for a model without styles, got {truncation!r} for {synthesizer!r}. "
            "`torchgenaug fit stylegan2` trains one with styles."
        )
    with Construction():  # fresh weights are drawn, and torch's global random state stays as it is
        module = build_network(blueprint["class"], **{**blueprint["arguments"], "truncation": truncation})
    module.load_state_dict(synthesizer.module.state_dict())
    stored = Stored(synthesizer.stored().settings, {"module": module})
    made = ModuleSynthesizer.from_stored(stored, device=synthesizer.device, dtype=None)
    made.trained_on = synthesizer.trained_on
    return made
