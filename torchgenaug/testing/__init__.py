"""For those who write synthesizers and sources: a synthesizer that needs no network, and conformance suites.

Use a suite by subclassing it in a test module and returning your object from the fixture-like method::

    class TestMySynthesizer(SynthesizerConformance):
        def make(self):
            return MySynthesizer(...)
"""

from torchgenaug.sources.in_memory import InMemorySource
from torchgenaug.testing.analytic import AnalyticSynthesizer
from torchgenaug.testing.source_suite import SourceConformance
from torchgenaug.testing.synthesizer_suite import SynthesizerConformance

__all__ = ["AnalyticSynthesizer", "InMemorySource", "SourceConformance", "SynthesizerConformance"]
