"""`judge` on facts that are written down: which finding decides, and how much."""

from __future__ import annotations

import dataclasses

import pytest

from torchgenaug.metrics.measurement import Measurement
from torchgenaug.trust.leaks.check import LeakReport
from torchgenaug.trust.report.evaluate import trilemma
from torchgenaug.trust.report.verdict import Facts, judge


def result(measure: str, value: float, features: str = "radiomics-like") -> Measurement:
    name = f"{measure}[{features}]"
    return Measurement(name, value, value, value, 1.0, None, 100, "higher", (0, 1), "source", features)


def facts(detail: float = 1.0, **values: float) -> Facts:
    """Of sets without copies; precision and coverage are 1 where `values` does not say otherwise."""
    measures = {
        each.name: each
        for measure in ("precision", "coverage")
        for each in (
            result(measure, values.get(measure, 1.0)),
            result(measure, values.get(f"coarse_{measure}", 1.0), "radiomics-like at 1/4"),
        )
    }
    return Facts(measures, 100, 100, None, 0, 0, 0.01, detail, LeakReport((), ()))


def found(given: Facts) -> dict[str, str]:
    return {each.kind: each.verdict for each in judge(given) if each.kind != "no held-out images"}


def test_a_right_structure_without_fine_detail_is_a_caution():
    assert found(facts(precision=0.0, coverage=0.0)) == {"detail": "caution"}
    assert found(facts(detail=0.44, precision=0.0, coverage=0.0)) == {"blur": "caution", "detail": "caution"}
    assert found(facts(detail=0.1)) == {"blur": "do not use"}
    assert found(facts(detail=3)) == {"noise": "caution"}
    assert found(facts()) == {"good": "use"}


@pytest.mark.parametrize(("share", "verdict"), [(0.7, "caution"), (0.4, "do not use")])
def test_a_wrong_structure_is_not(share: float, verdict: str):
    assert found(facts(coarse_precision=share, precision=0.0)) == {"realism": verdict}
    assert found(facts(coarse_coverage=share)) == {"variety": verdict}


def test_features_without_averaged_images_decide_themselves():
    measures = {"precision[mine]": result("precision", 0.4, "mine")}
    assert found(dataclasses.replace(facts(), measures=measures)) == {"realism": "do not use"}


def test_the_trilemma_counts_what_decides():
    measures = facts(precision=0.0, coarse_precision=0.9, coarse_coverage=0.8).measures
    assert trilemma(measures, None) == {"quality": 0.9, "coverage": 0.8, "samples_per_s": None}
