from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import torchgenaug.demo
from tests import interpreter
from torchgenaug import ClassLabels, DiffusersSynthesizer, ShardSource, SyntheticSequence, load_synthesizer
from torchgenaug.cli import app, main
from torchgenaug.errors import ShardError
from torchgenaug.testing import AnalyticSynthesizer

FACTORIES = """
from torchgenaug import ClassLabels, SyntheticSequence
from torchgenaug.testing import AnalyticSynthesizer

def plain():
    return AnalyticSynthesizer((16, 16))

def classes():
    return AnalyticSynthesizer((16, 16), num_classes=3)

def sequence():
    return SyntheticSequence(classes(), ClassLabels(3), seed=4)

class Slow(AnalyticSynthesizer):
    def __init__(self, spatial, pause=0.02):
        super().__init__(spatial)
        self.pause = pause

    def synthesize(self, seeds, conditions=None):
        import time
        time.sleep(self.pause)
        return super().synthesize(seeds, conditions)

def slow():
    return Slow((8, 8))

def hanging():
    return Slow((8, 8), pause=3600)

def nothing():
    return None

def only_two():
    return ClassLabels(3, weights=[0, 0, 1])
"""
TWO_OF_THREE = ("--count", 4, "--batch-size", 4, "--conditions", "factories_for_cli:only_two")


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "factories_for_cli.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "factories_for_cli", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def run(*arguments, status=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result.output


def width(path):
    with Image.open(path) as picture:
        return picture.width


def render(*options):
    return run("render", "factories_for_cli:plain", "--out", "shards", "--count", 20, "--batch-size", 4, *options)


def test_help_lists_the_commands_with_examples():
    for command in ("demo", "render", "inspect", "verify", "preview"):
        assert command in run("--help")
        assert f"torchgenaug {command}" in run(command, "--help")


def test_render_writes_what_the_function_would(here):
    output = render("--seed", 3, "--shard-size", 8)
    assert "20 samples, 3 shards" in output
    assert width("shards/preview.png") > 100
    source = ShardSource("shards")
    expected = SyntheticSequence(AnalyticSynthesizer((16, 16)), seed=3)
    assert source.fingerprint == expected.fingerprint
    assert torch.equal(source.read(source.ids(torch.arange(4).numpy()))["image"], expected.batch(range(4))["image"])
    before = {path.name: path.read_bytes() for path in Path("shards").glob("shard-*")}
    render("--seed", 3, "--shard-size", 8)
    assert {path.name: path.read_bytes() for path in Path("shards").glob("shard-*")} == before


def test_dry_run_states_time_and_disk_and_writes_nothing(here):
    output = " ".join(render("--dry-run").split())
    assert "image: intensity (1, 16, 16) float32 in [0, 1]" in output
    assert "All 20 samples: about" in output
    assert "kB" in output
    assert not Path("shards").exists()
    picture = Path(output.split("Look at ")[1].removesuffix(".").replace(" ", ""))
    assert width(picture) > 100


@pytest.mark.parametrize("options", [("--dtype", "uint8"), ("--compression", "gzip"), ("--compression", "lz4")])
def test_storage_options(here, options):
    plain = SyntheticSequence(AnalyticSynthesizer((16, 16))).batch(range(20))["image"]
    render(*options)
    stored = ShardSource("shards").read(torch.arange(20).numpy())["image"]
    assert (stored - plain).abs().max() <= (0.5 / 255 + 1e-6 if "uint8" in options else 0)


def test_classes(here):
    run("render", "factories_for_cli:classes", "--out", "by-default", "--count", 6, "--batch-size", 6)
    run("render", "factories_for_cli:classes", "--out", "given", "--count", 6, "--batch-size", 6, "--classes", 2)
    labels = [ShardSource(name).column("label").bincount().tolist() for name in ("by-default", "given")]
    assert labels == [[2, 2, 2], [3, 3]]


def test_a_factory_may_return_a_sequence(here):
    run("render", "factories_for_cli:sequence", "--out", "shards", "--count", 4, "--batch-size", 4)
    expected = SyntheticSequence(AnalyticSynthesizer((16, 16), num_classes=3), ClassLabels(3), seed=4)
    assert ShardSource("shards").fingerprint == expected.fingerprint


def test_a_plain_diffusers_folder(here):
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    net = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )
    DDPMPipeline(net, DDPMScheduler(10)).save_pretrained("pipeline")
    options = ("--count", 2, "--batch-size", 2, "--steps", 2)
    output = " ".join(run("render", "pipeline", "--out", "default", *options).split())
    assert "-1 and 1 of the model become 0 and 1; set others with --value-range." in output
    assert "Intensities" not in run("render", "pipeline", "--out", "ct", *options, "--value-range", -1000, 2000)
    default, hounsfield = (ShardSource(name).read(np.arange(2))["image"] for name in ("default", "ct"))
    torch.testing.assert_close(default * 3000 - 1000, hounsfield, rtol=0, atol=0.01)
    expected = DiffusersSynthesizer.from_pretrained("pipeline", steps=2, value_range=(-1000, 2000))
    assert ShardSource("ct").manifest.synthesizer == expected.fingerprint


def test_conditions_of_a_factory(here):
    run("render", "factories_for_cli:classes", "--out", "shards", *TWO_OF_THREE)
    assert ShardSource("shards").column("label").tolist() == [2, 2, 2, 2]


def test_inspect_says_where_it_came_from(here):
    render("--seed", 7)
    output = run("inspect", "shards")
    manifest = json.loads(Path("shards/manifest.json").read_text())
    for text in (
        "20 samples, 1 of 1 shard there",
        "base seed  7",
        manifest["sequence"],
        "4 samples per call",
        "unknown",
    ):
        assert text in output, text


def test_verify_and_repair(here):
    render("--shard-size", 8)
    assert "everything is as it was rendered" in run("verify", "shards")
    victim = sorted(Path("shards").glob("shard-00001.*"))[0]
    intact = victim.read_bytes()
    victim.write_bytes(intact[:3000] + bytes([intact[3000] ^ 1]) + intact[3001:])
    assert "damaged ids: 8-15" in run("verify", "shards", status=1)
    render("--shard-size", 8, "--repair")
    assert victim.read_bytes() == intact
    sorted(Path("shards").glob("shard-00002.*"))[0].unlink()
    assert "missing ids: 16-19" in run("verify", "shards", status=1)
    assert "Incomplete" in run("inspect", "shards")


def test_preview(here):
    render()
    run("preview", "shards", "--out", "sheet.png", "--count", 9, "--rotate", 1)
    assert width("sheet.png") > 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "absent"], "`path` must be a folder that render_shards wrote, got 'absent', which does not exist"),
        (["render", "absent", "--out", "x", "--count", "3"], "`path` must be a folder with synthesizer.json"),
        (["render", "no_such:thing", "--out", "x", "--count", "3"], "No module named 'no_such'"),
        (["render", "factories_for_cli:thing", "--out", "x", "--count", "3"], "got 'thing', which it does not have"),
        (["render", "factories_for_cli:nothing", "--out", "x", "--count", "3"], "got NoneType from"),
        (["render", "factories_for_cli:sequence", "--out", "x", "--count", "3", "--seed", "1"], "must be left out"),
        (["render", "factories_for_cli:plain", "--out", "x", "--count", "3", "--steps", "5"], "has no sampling steps"),
        (["render", "factories_for_cli:plain", "--out", "s3://bucket/x", "--count", "3"], "folder of this machine"),
        (
            ["render", "factories_for_cli:plain", "--out", "x", "--count", "3", "--value-range", "0", "1"],
            "--value-range must be left out unless SYNTHESIZER is a plain diffusers folder",
        ),
        (
            ["render", "factories_for_cli:sequence", "--out", "x", "--count", "3", "--conditions", "m:f"],
            "--conditions, --steps and --truncation must be left out",
        ),
    ],
)
def test_errors_are_one_message_and_status_1(here, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, "argv", ["torchgenaug", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
    assert not Path("x").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_renders_say_how_to_go_on(here, number):
    arguments = ["render", "factories_for_cli:slow", "--out", "shards", "--count", "4000", "--batch-size", "1"]
    child = interpreter.start(["-m", "torchgenaug.cli", *arguments, "--shard-size", "1"], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not list(here.glob("shards/shard-*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(number)
    errors = child.communicate(timeout=300)[1]
    assert child.returncode == 130
    assert "of 4000 shards are complete" in errors
    assert "Run the same render again to make the rest." in errors
    assert "Traceback" not in errors
    assert not list(here.glob("shards/.*"))


def test_a_model_that_hangs(here):
    with pytest.raises(ShardError, match=r"has not returned samples 0 to 1 \(seeds \d+, \d+\) for \d s"):
        run("render", "factories_for_cli:hanging", "--out", "shards", "--count", 2, "--timeout", 0.2)


def test_steps_and_threads(here):
    saved = Path(torchgenaug.demo.__file__).parent / "weights"
    for steps in (1, 2):
        options = ("--steps", steps, "--threads", 1, "--batch-size", 1)
        run("render", saved, "--out", f"steps{steps}", "--count", 1, *options)
    one, two = (ShardSource(f"steps{steps}") for steps in (1, 2))
    assert one.manifest.num_threads == 1
    assert one.manifest.trained_on == load_synthesizer(saved).trained_on is not None
    assert one.fingerprint != two.fingerprint
    assert not torch.equal(one.read(one.ids([0]))["image"], two.read(two.ids([0]))["image"])


def test_entry_point_starts_without_heavy_imports(here):
    code = "import sys; from torchgenaug.cli import app; print([m for m in ('diffusers', 'h5py') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == "[]"
    environment = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-m", "torchgenaug.cli", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env=environment,
    )
    assert "render" in done.stdout


def test_a_manifest_sends_no_escape_sequences_to_the_terminal(here):
    render()
    path = here / "shards" / "manifest.json"
    values = json.loads(path.read_bytes())
    values |= {
        "device": "\x1b]0;owned\x07cpu",
        "versions": {"\x1b[2Jtorch": "\x9b31m"},
        "trained_on": "\x7f\u202e[red]",
    }
    path.write_text(json.dumps(values))
    output = run("inspect", "shards")
    assert "\\x1b]0;owned\\x07cpu" in output
    assert not {letter for letter in output if not letter.isprintable() and letter not in "\n"}
