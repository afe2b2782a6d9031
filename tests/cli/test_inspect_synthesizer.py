from __future__ import annotations

import json

from typer.testing import CliRunner

from torchgenaug import ModuleSynthesizer, load_synthesizer, save_synthesizer
from torchgenaug.cli import app
from torchgenaug.synthesizers import build_network


def test_what_inspect_prints_pins_the_folder(tmp_path):
    module = build_network("torchgenaug:DCGANGenerator", latent_dim=4, shape=[1, 8, 8], width=4)
    synthesizer = ModuleSynthesizer(module, latent_shape=(4,), value_range=(-1, 1))
    save_synthesizer(synthesizer, tmp_path / "gan")
    index = tmp_path / "gan" / "synthesizer.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"trained_on": {"data": "\x1b[31mred"}}))
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "gan")])
    assert result.exit_code == 0, result.output
    rows = dict(line.strip().split("  ", 1) for line in result.output.splitlines() if "  " in line.strip())
    assert rows["fingerprint"].strip() == synthesizer.fingerprint
    assert load_synthesizer(tmp_path / "gan", sha256=rows["sha256"].split()[0])
    assert "\x1b[31m" not in result.output
    assert "do not fit their checksum" in rows["damaged"]
    facts = json.loads(CliRunner().invoke(app, ["inspect", str(tmp_path / "gan"), "--json"]).stdout)
    assert (facts["sha256"], facts["damaged"]) == (rows["sha256"].split()[0], True)
    assert facts["synthesizer"] == json.loads(index.read_text())
