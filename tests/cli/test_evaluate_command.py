"""``torchgenaug evaluate``: what it accepts, what it writes, and its exit status."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset
from typer.testing import CliRunner

from torchgenaug import FieldSpec, ModuleSynthesizer, SyntheticSequence, render_shards, save_synthesizer
from torchgenaug.cli import app
from torchgenaug.cli.evaluate_data import load_real, load_synthetic
from torchgenaug.errors import ConfigurationError, FieldMismatchError
from torchgenaug.shards.card import MARK, put_card
from torchgenaug.synthesizers import build_network

pytest.importorskip("matplotlib")


class Noise(Dataset):
    def __init__(self, count: int, seed: int):
        self.images = torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {"image": self.images[index]}


def real_images():
    return Noise(60, 0)


def other_images():
    return Noise(110, 1)


def new_images():
    return Noise(60, 2)


HERE = f"{__name__}:"


def run(*arguments, out):
    command = ["evaluate", *map(str, arguments), "--out", str(out)]
    result = CliRunner().invoke(app, command)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_data_set_by_name(tmp_path):
    result = run(
        f"{HERE}new_images",
        "--real",
        f"{HERE}real_images",
        "--held-out",
        f"{HERE}other_images",
        out=tmp_path / "report",
    )
    assert result.exit_code == 0
    assert "Verdict: use" in result.output
    assert "FID[radiomics-like]" in result.output
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["verdict"] == "use"
    assert (tmp_path / "report" / "report.html").stat().st_size > 10_000


def test_folders_are_read_as_fit_reads_them(tmp_path):
    write_pictures(tmp_path / "real" / "sub-1", Noise(20, 0).images)
    write_pictures(tmp_path / "real" / "sub-2", (Noise(20, 1).images > 0.5).float())  # looks like masks
    command = (f"{HERE}new_images", "--real", tmp_path / "real")
    with pytest.raises(ConfigurationError, match="--images '\\*\\*' --folders classes"):
        run(*command, out=tmp_path / "report")
    run(*command, "--images", "**", "--folders", "patients", out=tmp_path / "report")
    assert json.loads((tmp_path / "report" / "report.json").read_text())["counts"]["real"] == 40


def test_folders_are_read_at_the_size_of_the_model_that_was_fitted_on_them(tmp_path):
    write_pictures(tmp_path / "scans", Noise(4, 0).images)
    fields, record = {"image": FieldSpec((1, 8, 8))}, {"data": "scans", "samples": ["0.png", "1.png", "2.png"]}
    shards = SimpleNamespace(fields=fields, trained_on=record)
    train, others = load_real(f"{tmp_path}/scans/", None, shards, size=None)
    assert [len(train), len(others)] == [3, 1]
    assert {tuple(sample["image"].shape) for part in (train, others) for sample in part.samples} == {(1, 8, 8)}
    record["data"] = "others"  # nothing says that these were resized
    train, _ = load_real(str(tmp_path / "scans"), None, shards, size=None)
    assert train[0]["image"].shape == (1, 16, 16)


def test_fail_on_sets_the_exit_status(tmp_path):
    copied = (f"{HERE}real_images", "--real", f"{HERE}real_images", "--held-out", f"{HERE}other_images")
    assert run(*copied, out=tmp_path).exit_code == 0
    assert run(*copied, "--fail-on", "cannot judge", out=tmp_path).exit_code == 0
    result = run(*copied, "--fail-on", "do not use", "--json", out=tmp_path)
    assert result.exit_code == 3
    page = {"page": str(tmp_path / "report.html")}
    assert json.loads(result.stdout) == json.loads((tmp_path / "report.json").read_text()) | page


def test_shards_and_a_saved_synthesizer(tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build_network("torchgenaug:DCGANGenerator", latent_dim=4, shape=[1, 16, 16], width=4)
    synthesizer = ModuleSynthesizer(module, latent_shape=(4,), output_range=(-1, 1), value_range=(0, 1))
    save_synthesizer(synthesizer, tmp_path / "model")
    render_shards(SyntheticSequence(synthesizer), tmp_path / "shards", 20, progress=False)
    real = ("--real", f"{HERE}real_images")
    for name in ("shards", "model"):
        if name == "model":
            put_card(tmp_path / name, f"{MARK}\n{synthesizer.fingerprint}\n\n## Intended use\n")
        result = run(tmp_path / name, *real, "--count", 20, out=tmp_path / name / "report")
        assert result.exit_code == 0
        assert "Verdict and measures stand in" in result.output
        assert "**cannot judge**" in (tmp_path / name / "README.md").read_text()
        report = json.loads((tmp_path / name / "report" / "report.json").read_text())
        assert report["counts"] == {"real": 60, "synthetic": 20}
        assert report["verdict"] != "use"


def write_pictures(folder, images):
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray((image[0].numpy() * 255).astype(np.uint8)).save(folder / f"{number}.png")


def test_folders_of_pictures(tmp_path):
    write_pictures(tmp_path / "real", real_images().images[:30])
    write_pictures(tmp_path / "synthetic", new_images().images[:30])
    assert run(tmp_path / "synthetic", "--real", tmp_path / "real", out=tmp_path / "report").exit_code == 0
    write_pictures(tmp_path / "large", torch.rand(10, 1, 32, 32))
    with pytest.raises(FieldMismatchError, match="--size 16"):
        run(tmp_path / "large", "--real", tmp_path / "real", out=tmp_path / "report")
    sized = ("--real", tmp_path / "real", "--size", 16)
    assert run(tmp_path / "large", *sized, out=tmp_path / "report").exit_code == 0


def test_a_real_folder_that_holds_the_synthetic_images_is_refused(tmp_path):
    write_pictures(tmp_path / "data" / "synthetic", new_images().images[:3])
    for real in (tmp_path / "data", tmp_path / "data" / "synthetic"):
        with pytest.raises(ConfigurationError, match="--real must not hold the synthetic images"):
            run(tmp_path / "data" / "synthetic", "--real", real, out=tmp_path / "report")


def test_subfolders_of_synthetic_images_are_what_the_option_says(tmp_path):
    for name in ("a", "b"):
        write_pictures(tmp_path / "synthetic" / name, new_images().images[:3])
    with pytest.raises(ConfigurationError, match="--folders classes"):
        load_synthetic(str(tmp_path / "synthetic"), "digits", size=None, count=2, seed=0)
    made = load_synthetic(str(tmp_path / "synthetic"), "digits", size=None, count=2, seed=0, folders="classes")
    assert made.class_names == ("a", "b")


def test_held_out_and_real_images_are_no_part_of_the_synthetic_ones(tmp_path):
    write_pictures(tmp_path / "data" / "synthetic", new_images().images[:3])
    synthetic = tmp_path / "data" / "synthetic"
    with pytest.raises(ConfigurationError, match="SYNTHETIC must not hold the real images"):
        run(tmp_path / "data", "--real", synthetic, out=tmp_path / "report")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    write_pictures(tmp_path / "real", real_images().images[:3])
    for place in (synthetic, tmp_path / "link"):
        with pytest.raises(ConfigurationError, match="--held-out must not hold the synthetic images"):
            run(synthetic, "--real", tmp_path / "real", "--held-out", place, out=tmp_path / "report")


def test_what_is_neither_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="SYNTHETIC must be a shard folder"):
        run("nothing", "--real", f"{HERE}real_images", out=tmp_path)
    features = ("--features", f"{HERE}real_images")
    with pytest.raises(ConfigurationError, match="--features must give features"):
        run(f"{HERE}new_images", "--real", f"{HERE}real_images", *features, out=tmp_path)
