"""Five planted sets get five different, right verdicts; the report is one self-contained page."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from torchgenaug.datasets.digits import Digits
from torchgenaug.errors import ConfigurationError, EmptyDatasetError, FieldMismatchError
from torchgenaug.metrics.features.contract import extract_features
from torchgenaug.metrics.sets.degrade import blur
from torchgenaug.pseudonyms import anonymous
from torchgenaug.trust import Evaluation, evaluate
from torchgenaug.trust.report.page import _privacy
from torchgenaug.trust.report.profiles import detail_ratio, profile

pytest.importorskip("mlxtend")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def digits() -> dict[str, torch.Tensor]:
    train, held_out, test = (Digits(split).images for split in ("train", "held_out", "test"))
    return {"train": train[::8], "held_out": held_out[::3], "test": test[::5]}


@pytest.fixture(scope="module")
def good(digits: dict[str, torch.Tensor]) -> Evaluation:
    return evaluate(digits["test"], digits["train"], digits["held_out"])


def planted(kind: str, digits: dict[str, torch.Tensor]) -> torch.Tensor:
    test, train = digits["test"], digits["train"]
    few = test[::15].repeat(15, 1, 1, 1)
    noise = 0.02 * drawn(*test.shape)
    return {
        "blur": blur(test, 1.0),
        "collapse": (few + noise).clamp(0, 1),
        "copies": (train[::2][: len(test)].roll(1, 3) * 0.95 + noise / 2).clamp(0, 1),
        "real images": train[::2][: len(test)],
    }[kind]


def test_real_images_that_training_has_not_seen_are_good(good: Evaluation):
    assert good.verdict == "use"
    assert {finding.kind for finding in good.findings} == {"good"}


@pytest.mark.parametrize("kind", ["blur", "collapse", "copies", "real images"])
def test_what_is_wrong_is_named_first(kind: str, digits: dict[str, torch.Tensor]):
    evaluation = evaluate(planted(kind, digits), digits["train"], digits["held_out"])
    assert evaluation.verdict == "do not use"
    assert evaluation.findings[0].kind == kind, evaluation.reasons
    others = {"blur", "collapse", "copies", "real images"} - {kind}
    assert not others & {finding.kind for finding in evaluation.findings}


def test_without_held_out_images_copies_cannot_be_judged(digits: dict[str, torch.Tensor]):
    evaluation = evaluate(digits["test"], digits["train"])
    assert evaluation.verdict == "cannot judge"
    assert "0 held-out real images or patients, 99 are needed" in evaluation.reasons[0]
    assert evaluation.copies["found"] is None
    assert any("Leaks were not looked for" in note for note in evaluation.notes)
    copied = evaluate(planted("real images", digits), digits["train"])
    assert copied.verdict == "do not use"


def test_held_out_images_in_the_synthetic_set_are_a_leak(digits: dict[str, torch.Tensor]):
    evaluation = evaluate(digits["held_out"], digits["train"], digits["held_out"])
    assert (evaluation.verdict, evaluation.findings[0].kind) == ("do not use", "leak")
    assert len(evaluation.leaks["leaks"]) == len(digits["held_out"])


def test_few_images_are_not_judged():
    images = torch.rand(230, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    evaluation = evaluate(images[:6], images[6:106], images[106:])
    assert evaluation.verdict == "cannot judge"
    assert "6 synthetic and 100 real images; at least 50 of each" in evaluation.reasons[0]


def test_json_holds_the_agreed_names(good: Evaluation):
    report = json.loads(json.dumps(good.to_json(), allow_nan=False))
    assert {"measures", "copies", "duplicates", "leaks", "verdict", "reasons"} <= report.keys()
    result = report["measures"]["FID[radiomics-like]"]
    assert {"value", "low", "high", "floor", "ceiling", "n", "better", "features", "sha256"} <= result.keys()
    assert {"found", "expected_by_chance", "calibrated_on", "pairs"} <= report["copies"].keys()
    assert len(report["copies"]["pairs"]) == 20
    assert report["counts"] == {"real": 438, "synthetic": 150, "held_out": 250}


class Balanced(HTMLParser):
    """Checks that every element is closed, and collects what the page loads."""

    void = frozenset({"meta", "img", "wbr"})

    def __init__(self):
        super().__init__()
        self.open, self.loaded = [], []

    def handle_starttag(self, tag, attrs):
        self.loaded += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_one_self_contained_file(good: Evaluation, tmp_path):
    pytest.importorskip("matplotlib")
    page = good.save(tmp_path / "report").read_text(encoding="utf-8")
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert len(parser.loaded) == 20 + 2 + 20 + 2 + 1
    assert all(each.startswith("data:image/png;base64,") for each in parser.loaded)
    assert not re.search(r"<script|@import|url\(", page)
    assert "Use: nothing speaks against" in page
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"report.html", "report.json"}


def test_the_key_of_the_puzzle_is_right(good: Evaluation, digits: dict[str, torch.Tensor]):
    puzzle = good.pictures.puzzle
    assert sum(is_synthetic for _, is_synthetic in puzzle) == 10
    for image, is_synthetic in puzzle:
        assert bool((digits["test"] == image).flatten(1).all(1).any()) == is_synthetic


def test_same_images_give_the_same_report(good: Evaluation, digits: dict[str, torch.Tensor]):
    state = torch.random.get_rng_state()
    again = evaluate(digits["test"], digits["train"], digits["held_out"])
    assert again.to_json() == good.to_json()
    assert torch.equal(torch.random.get_rng_state(), state)


def test_volumes_are_judged(tmp_path):
    pytest.importorskip("matplotlib")
    volumes = torch.rand(170, 1, 12, 12, 12, generator=torch.Generator().manual_seed(0))
    evaluation = evaluate(volumes[:20], volumes[20:70], volumes[70:])
    assert evaluation.save(tmp_path).exists()


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        (lambda x: x[..., :12], r"interpolate\(images, size=\(16, 16\)"),
        (lambda x: x.expand(-1, 3, -1, -1), r"images\.mean\(1, keepdim=True\)"),
        (lambda x: x * 255, r"RescaleIntensity\(\(.*0.99.*\), in_min_max="),
        (lambda x: x / 255, r"RescaleIntensity\(\(.*0.99.*\), in_min_max="),
    ],
)
def test_sets_that_do_not_match_are_refused_with_the_transform(change, advice):
    images = torch.rand(90, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with pytest.raises(FieldMismatchError, match=advice):
        evaluate(change(images[:30]), images[30:60], images[60:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, 0], r"images\[:, None\]"),
        (lambda x: x / 0, "finite intensities"),
        (lambda x: x * 0, "more than one intensity"),
    ],
)
def test_images_that_say_nothing_are_refused(change, message):
    images = torch.rand(90, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with pytest.raises((ConfigurationError, FieldMismatchError), match=message):
        evaluate(images[:30], change(images[30:60]), images[60:])


@pytest.mark.filterwarnings("ignore::torchgenaug.errors.IntensityMismatchWarning")
@pytest.mark.parametrize("with_held_out", [True, False])
def test_images_of_one_grey_are_a_collapse(tmp_path, with_held_out: bool):
    images = torch.rand(220, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    grey = torch.full((60, 1, 16, 16), 0.5)
    evaluation = evaluate(grey, images[:60], images[60:] if with_held_out else None)
    assert evaluation.verdict == "do not use"
    assert "collapse" in {finding.kind for finding in evaluation.findings}
    json.dumps(evaluation.to_json(), allow_nan=False)


def test_the_advice_on_ranges_works():
    images = torch.rand(90, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with pytest.raises(FieldMismatchError) as caught:
        evaluate(images[:30] * 255 - 40, images[30:60], images[60:])
    formula = re.search(r"Rescale them: (.*), which is", str(caught.value))
    assert formula
    aligned = eval(formula[1], {"images": images[:30] * 255 - 40})
    assert evaluate(aligned, images[30:60], images[60:]).counts["synthetic"] == 30


def test_images_and_features_that_are_not_finite_are_refused():
    images = torch.rand(90, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    broken = images[:30].clone()
    broken[3, 0, 2, 2] = torch.nan

    class NanFeatures:
        name, sha256, standardize = "broken", "0", False

        def __call__(self, batch):
            return torch.full((len(batch), 4), torch.nan)

    with pytest.raises(ConfigurationError, match="got NaN or infinity at index 3"):
        evaluate(broken, images[30:60], images[60:])
    with pytest.raises(FieldMismatchError, match="'broken'"):
        evaluate(images[:30], images[30:60], images[60:], features=[NanFeatures()])
    with pytest.raises(EmptyDatasetError, match="`synthetic` must hold at least one image"):
        evaluate(images[:0], images[30:60])


@pytest.mark.parametrize("wrong", ["synthetic", "held_out"])
def test_the_upper_half_of_the_real_range_is_another_scale(wrong):
    images = torch.rand(20, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    images[:, 0, 0, 0], images[:, 0, 0, 1] = 0, 1
    sets = {name: images if name == wrong else images * 2 - 1 for name in ("synthetic", "held_out")}
    with pytest.raises(FieldMismatchError, match=rf"`{wrong}` must be on the scale .*\* 2 \+ -1, "):
        evaluate(sets["synthetic"], images * 2 - 1, sets["held_out"])


def test_arrays_are_images():
    images = np.random.default_rng(0).random((30, 1, 16, 16), np.float32)
    assert evaluate(images[:10], images[10:20], images[20:]).counts == {"real": 10, "synthetic": 10, "held_out": 10}


def test_held_out_images_that_were_trained_on_calibrate_nothing():
    images = torch.rand(200, 1, 16, 16)
    found = evaluate(images[:60], images[60:200], images[60:200])
    assert found.verdict == "cannot judge"
    assert "cannot be recognised" in found.reasons[0]


SMALL = torch.rand(190, 1, 16, 16, generator=torch.Generator().manual_seed(0))


class OwnFeatures:
    """Features of the user's own."""

    name, sha256, standardize = "own", "0", False

    def __init__(self, function):
        self._function = function

    def __call__(self, images):
        return self._function(images.flatten(1)[:, :4])


@pytest.mark.parametrize(
    ("function", "got"),
    [
        (lambda x: [x], "got list"),
        (lambda x: None, "got NoneType"),
        (lambda x: x.numpy(), "got ndarray"),
        (lambda x: x.to(torch.complex64), "complex64"),
        (lambda x: x.to("meta"), "on meta"),
        (lambda x: x[:1], r"got \(1, 4\) for 45 images"),
    ],
)
def test_features_that_are_no_vectors_are_refused(function, got):
    with pytest.raises(FieldMismatchError, match=got):
        evaluate(SMALL[:45], SMALL[45:90], features=OwnFeatures(function))


def test_features_of_another_width_are_refused():
    with pytest.raises(FieldMismatchError, match=r"must return \(images, 1\) as before, got \(1, 2\)"):
        extract_features(OwnFeatures(lambda x: x[:, : 1 + len(x) % 2]), SMALL[:65])


@pytest.mark.parametrize("function", [torch.ones_like, lambda x: x * 1e30])
def test_features_that_cannot_tell_real_images_apart_give_no_good_verdict(function):
    evaluation = evaluate(SMALL[:60], SMALL[60:120], features=OwnFeatures(function))
    assert "features" in {finding.kind for finding in evaluation.findings}


def test_a_single_feature_can_be_drawn():
    evaluation = evaluate(SMALL[:20], SMALL[20:40], features=OwnFeatures(lambda x: x[:, :1]))
    assert evaluation.pictures.maps[0].real.shape == (20, 2)


def test_few_images_that_are_looked_at_give_no_good_verdict():
    evaluation = evaluate(SMALL[:45], SMALL[45:90], SMALL[90:], most=2)
    assert evaluation.verdict == "cannot judge"
    assert "Quality cannot be judged from 2 synthetic and 2 real images" in evaluation.reasons[0]


def test_constant_images_do_not_make_the_others_noisy():
    slices = torch.cat([SMALL[:60], torch.zeros(12, 1, 16, 16)])
    detail = [detail_ratio(profile(SMALL[60:120], (0, 1)), profile(real, (0, 1))) for real in (SMALL[:60], slices)]
    assert detail[0] == detail[1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"synthetic": None}, "`synthetic` must be a tensor of images or a data set"),
        ({"real": "scans"}, r"`real` must be .* got 'scans'"),
        ({"features": "radiomics"}, "`features` must be features"),
        ({"features": [torch.nn.Identity()]}, "NetworkFeatures"),
        ({"value_range": (0, 1, 2)}, "two finite numbers"),
        ({"value_range": (0, torch.inf)}, "two finite numbers"),
        ({"most": "all"}, "`most` must be an integer"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(arguments, text):
    with pytest.raises(ConfigurationError, match=text):
        evaluate(**{"synthetic": SMALL[:9], "real": SMALL[9:18], **arguments})


def test_the_page_says_how_many_overlaps_it_shows(good: Evaluation):
    leaks = [{"kind": "id", "index": k, "seen_as": f"<b>{k}"} for k in range(60)]
    text = _privacy({**good.to_json(), "leaks": {"leaks": leaks}})
    assert "60 overlaps of held-out data found; the first 50, report.json has all." in text
    assert text.count("<tr>") == 51
    assert "&lt;b&gt;49" in text


def test_names_in_a_report_may_be_pseudonyms(good: Evaluation, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHGENAUG_SECRET_FILE", str(tmp_path / "secret"))
    leaks = [{"kind": kind, "index": 0, "seen_as": "MILLER"} for kind in ("id", "patient")]
    leaks += [{"kind": "content", "index": 0, "seen_as": "index 3"}]
    found = dataclasses.replace(good, leaks={"leaks": leaks, "not_compared": []}).anonymised().to_json()["leaks"]
    assert [leak["seen_as"] for leak in found["leaks"]] == [anonymous("MILLER")] * 2 + ["index 3"]
