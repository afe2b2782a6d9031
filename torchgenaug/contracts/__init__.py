"""The whole extension surface: what a synthesizer, a condition, a screen and a source of samples must do.

Anything with these attributes fits; there is no base class to inherit and no registry to enter. `Synthesizer`,
`Conditions`, `Screen` and `SyntheticSource` are what the library needs. The other protocols are optional abilities,
used where an object has them:

- of synthesizers: `ClassConditional`, `Conditional` (what they are conditioned on), `Placed`, `Movable` (devices),
  `Storable` (saving), `Trained` (what they were trained on), `Denoises` (diffusion from any noise level on);
- of sources: `ReadsInto` (reading without a copy), `Changing`, `ChangingWithinEpoch` (content that depends on the
  epoch), `Ranked` (samples of its own in each process), `Joined` (samples of several sequences), `Scored` (a
  score for each sample), `Filtered` (a filter's acceptance rate besides).

The conformance suites in `torchgenaug.testing` check an implementation and every optional ability that it has.
"""

from torchgenaug.contracts.sources import (
    Changing,
    ChangingWithinEpoch,
    Filtered,
    Joined,
    Ranked,
    ReadsInto,
    Scored,
    SyntheticSource,
)
from torchgenaug.contracts.synthesizers import (
    ClassConditional,
    Conditional,
    Conditions,
    Denoises,
    DenoisingModel,
    Movable,
    Placed,
    Redrawing,
    Screen,
    Storable,
    Stored,
    Synthesizer,
    Trained,
    device_of,
    num_classes_of,
    trained_on_all,
    trained_on_of,
)

__all__ = [
    "Changing",
    "ChangingWithinEpoch",
    "ClassConditional",
    "Conditional",
    "Conditions",
    "Denoises",
    "DenoisingModel",
    "Filtered",
    "Joined",
    "Movable",
    "Placed",
    "Ranked",
    "ReadsInto",
    "Redrawing",
    "Scored",
    "Screen",
    "Storable",
    "Stored",
    "Synthesizer",
    "SyntheticSource",
    "Trained",
    "device_of",
    "num_classes_of",
    "trained_on_all",
    "trained_on_of",
]
