from __future__ import annotations

import json
import logging
import pickle
import pickletools

import pytest
import torch
from pythae import models
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder

from torchgenaug.errors import SynthesizerLoadError
from torchgenaug.synthesizers.pythae.synthesizer import PythaeSynthesizer

logging.disable(logging.INFO)  # pythae's trainers report every step
SHAPE = (1, 6, 7)


class OwnDecoder(BaseDecoder):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 42)

    def forward(self, z):
        return ModelOutput(reconstruction=torch.sigmoid(self.linear(z)).reshape(-1, *SHAPE))


class OwnEncoder(BaseEncoder):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(42, 3)

    def forward(self, x):
        code = self.linear(x.flatten(1))
        return ModelOutput(embedding=code, log_covariance=-code.abs())


def saved(folder, model="VAE", **parts):
    torch.manual_seed(0)
    made = getattr(models, model)(getattr(models, f"{model}Config")(input_dim=SHAPE, latent_dim=3), **parts)
    made.save(str(folder))
    return made


def edit(folder, **changes):
    file = folder / "model_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize("model", ["VAE", "VAMP", "VAEGAN", "HVAE", "SVAE", "PoincareVAE"])
def test_a_saved_model_samples_like_the_model(model, tmp_path):
    made = saved(tmp_path / "m", model)
    loaded = PythaeSynthesizer.from_folder(tmp_path / "m", allow_pickle=True, value_range=(-1, 1))
    given = PythaeSynthesizer(made, value_range=(-1, 1))
    assert loaded.fingerprint == given.fingerprint
    assert torch.equal(loaded.synthesize([1, 2])["image"], given.synthesize([1, 2])["image"])


def test_an_rhvae_brings_its_manifold(tmp_path):
    torch.manual_seed(0)
    made = models.RHVAE(models.RHVAEConfig(input_dim=SHAPE, latent_dim=3))
    made({"data": torch.rand(5, *SHAPE)})
    made.update()
    made.save(str(tmp_path / "m"))
    loaded = PythaeSynthesizer.from_folder(tmp_path / "m", allow_pickle=True)
    assert loaded.fingerprint == PythaeSynthesizer(made).fingerprint


def test_one_folder_per_class(tmp_path):
    saved(tmp_path / "a")
    saved(tmp_path / "b", "BetaVAE")
    made = PythaeSynthesizer.from_folder({0: tmp_path / "a", 1: tmp_path / "b"}, allow_pickle=True)
    assert made.classes == (0, 1)


def test_own_networks_are_passed_in_code(tmp_path):
    made = saved(tmp_path / "m", decoder=OwnDecoder(), encoder=OwnEncoder())
    with pytest.raises(SynthesizerLoadError, match=r"decoder.pkl. Such a file can run any code.*decoder=MyDecoder"):
        PythaeSynthesizer.from_folder(tmp_path / "m", allow_pickle=True)
    loaded = PythaeSynthesizer.from_folder(tmp_path / "m", decoder=OwnDecoder(), allow_pickle=True)
    assert torch.equal(loaded.synthesize([4])["image"], PythaeSynthesizer(made).synthesize([4])["image"])


def test_a_vamp_needs_its_own_encoder(tmp_path):
    made = saved(tmp_path / "m", "VAMP", encoder=OwnEncoder())
    with pytest.raises(SynthesizerLoadError, match="`encoder` must be given"):
        PythaeSynthesizer.from_folder(tmp_path / "m", allow_pickle=True)
    loaded = PythaeSynthesizer.from_folder(tmp_path / "m", encoder=OwnEncoder(), allow_pickle=True)
    assert torch.equal(loaded.synthesize([4])["image"], PythaeSynthesizer(made).synthesize([4])["image"])


def test_pickles_are_refused_unless_allowed(tmp_path):
    saved(tmp_path / "m")
    with pytest.raises(SynthesizerLoadError, match=r"must not be a pickle.*allow_pickle=True"):
        PythaeSynthesizer.from_folder(tmp_path / "m")


class Bomb:
    def __reduce__(self):
        return (open, ("/nonexistent/bomb", "w"))


def test_a_hostile_pickle_is_not_executed(tmp_path):
    saved(tmp_path / "m")
    torch.save({"model_state_dict": {"x": Bomb()}}, tmp_path / "m" / "model.pt")
    with pytest.raises(SynthesizerLoadError, match=r"UnpicklingError.*Nothing else in it was executed"):
        PythaeSynthesizer.from_folder(tmp_path / "m", allow_pickle=True)
    saved(tmp_path / "n", decoder=OwnDecoder())
    (tmp_path / "n" / "decoder.pkl").write_bytes(pickletools.optimize(pickle.dumps(Bomb())))
    PythaeSynthesizer.from_folder(tmp_path / "n", decoder=OwnDecoder(), allow_pickle=True)  # never opened


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: (m / "model_config.json").unlink(), "with model_config.json"),
        (lambda m: (m / "model_config.json").write_text("{"), "must be a JSON file"),
        (lambda m: (m / "model_config.json").write_text("[]"), "must hold a JSON object"),
        (lambda m: edit(m, name="AutoModel"), "name a configuration of a pythae model, got 'AutoModel'"),
        (lambda m: edit(m, name="BaseDatasetConfig"), "name a configuration"),
        (lambda m: edit(m, latent_dim="many"), "must be a configuration of pythae"),
        (lambda m: edit(m, latent_dim=5), "weights that fit model_config.json"),
        (lambda m: edit(m, name="VAMPConfig"), "missing"),
        (lambda m: (m / "model.pt").unlink(), "a folder with model.pt"),
        (lambda m: torch.save([1], m / "model.pt"), "must hold `model_state_dict`, got list"),
        (lambda m: (m / "model.pt").write_bytes(b"garbage"), "tensors in plain containers"),
    ],
)
def test_spoiled_folders(spoil, message, tmp_path):
    saved(tmp_path / "m")
    spoil(tmp_path / "m")
    with pytest.raises(SynthesizerLoadError, match=message):
        PythaeSynthesizer.from_folder(tmp_path / "m", allow_pickle=True)


def test_a_module_of_another_kind(tmp_path):
    saved(tmp_path / "m", decoder=OwnDecoder())
    with pytest.raises(SynthesizerLoadError, match="subclasses of its BaseDecoder"):
        PythaeSynthesizer.from_folder(tmp_path / "m", decoder=torch.nn.Linear(3, 42), allow_pickle=True)
