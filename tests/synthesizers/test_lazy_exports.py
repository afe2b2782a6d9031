from __future__ import annotations

import pytest

import torchgenaug.synthesizers as package
from tests import clean_interpreter


def test_every_export_is_found():
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
        assert name in dir(package)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = package.Nothing


def test_importing_loads_no_library_of_models():
    code = (
        "import sys, torchgenaug.synthesizers as s, torchgenaug.conditions; s.FunctionSynthesizer; s.ModuleSynthesizer;"
        "print([m for m in ('diffusers', 'safetensors', 'huggingface_hub', 'h5py', 'torchio') if m in sys.modules])"
    )
    assert clean_interpreter.run(["-c", code]).stdout == "[]\n"
