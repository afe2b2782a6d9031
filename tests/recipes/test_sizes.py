"""Sizes that errors advise are accepted at once: by each rule for all sizes, by each family for a few."""

from __future__ import annotations

import re

import pytest
from fit_helpers import blobs, tiny

from torchgenaug.errors import ConfigurationError
from torchgenaug.nets.gan import halvings_of
from torchgenaug.recipes import list_families
from torchgenaug.recipes.build import build_recipe, describe_family, family_view, resolve_condition
from torchgenaug.recipes.families.ddpm import checked_levels
from torchgenaug.recipes.families.ldm import check_sizes

pytest.importorskip("monai")
pytest.importorskip("pythae")

LIKE_ANOTHER = {  # the same networks as a family that is tried
    *("cvae", "hvae", "vae-iaf", "vae-linnf", "info-vae", "beta-vae", "disentangled-beta-vae", "beta-tcvae", "vamp"),
    *("factor-vae", "iwae", "miwae", "piwae", "ciwae", "svae", "poincare-vae", "wae", "aae", "rae-l2", "rae-gp", "ae"),
    *("wgan-gp", "acgan", "unit", "regression", "inpaint-ddpm", "rhvae"),
}
TRIED = [
    (family, dims)
    for family in list_families()
    for about in [describe_family(family)]
    for dims in about.dims
    if family not in LIKE_ANOTHER and not about.teacher and not about.pretrained
]


def advised(refuse, sizes):
    """The sizes that an error advises; None without an error."""
    try:
        refuse(sizes)
    except ConfigurationError as error:
        text = str(error)
    else:
        return None
    numbers = re.fullmatch(r".* --size ([0-9,]+)", text)[1].split(",")
    return tuple(map(int, numbers * len(sizes) if len(numbers) == 1 else numbers))


@pytest.mark.parametrize(
    "rule",
    [checked_levels, check_sizes, halvings_of, lambda sizes: halvings_of(sizes, least=2)],
    ids=["ddpm", "ldm", "gan", "translation"],
)
def test_the_size_that_a_rule_advises_is_accepted(rule):
    pairs = [*((size, size) for size in range(4, 200)), *((a, b) for a in range(9, 41) for b in range(9, 41))]
    for sizes in pairs:
        wanted = advised(rule, sizes)
        if wanted is not None:
            assert advised(rule, wanted) is None
            assert all(old <= new < max(16, 2 * old) for old, new in zip(sizes, wanted, strict=True))


@pytest.mark.parametrize(("family", "dims"), TRIED)
def test_the_size_that_a_family_advises_is_accepted(family, dims):
    def build(sizes):
        condition = {"inpaint": "mask"}.get(family)
        options = tiny(width=4, latent_dim=4, with_mask=family == "two-stage-vae", condition=condition)
        data = blobs(2, sizes)
        options = resolve_condition(family, data, options)
        build_recipe(family, family_view(family, data, options), options)

    for sizes in [(17, 17), (25, 16), (11, 18)] if dims == 2 else [(13, 13, 10), (17, 11, 10)]:
        wanted = advised(build, sizes)
        if wanted is not None:
            assert len(wanted) == dims
            assert all(old <= new for old, new in zip(sizes, wanted, strict=True))
            build(wanted)
