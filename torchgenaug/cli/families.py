"""``torchgenaug fit list``."""

from __future__ import annotations

import json
from pathlib import Path

from torchgenaug.cli.output import say
from torchgenaug.errors import ConfigurationError


def show_families(as_json: bool, only: str | None = None) -> None:
    """Prints what each family is and what it can be conditioned on.

    Args:
        as_json: one JSON object instead of lines.
        only: one family, with its settings.

    Raises:
        ConfigurationError: there is no such family.
    """
    from torchgenaug.recipes.build import describe_family, list_families
    from torchgenaug.recipes.settings import text_of

    families = {name: describe_family(name) for name in ([only] if only else list_families())}
    if as_json:
        facts = {
            name: {
                "summary": about.summary,
                "dims": list(about.dims),
                "conditions": list(about.conditions),
                "with_mask": about.with_mask and not about.teacher,
                "teacher": about.teacher,
                "pretrained": about.pretrained,
                "steps": about.steps,
                "batch_size": about.batch_size,
                "settings": {
                    key: {"default": setting.default, "must_be": setting.constraint, "text": setting.text}
                    for key, setting in about.settings.items()
                },
            }
            for name, about in families.items()
        }
        print(json.dumps(facts, indent=2))
        return
    for name, about in families.items():
        dims = " and ".join(f"{each}D" for each in about.dims)
        conditions = ", ".join(each or "none" for each in about.conditions)
        mask = "; --with-mask" if about.with_mask and not about.teacher else ""
        needed = "--from PIPELINE; " if about.pretrained else ""
        options = "--teacher FOLDER" if about.teacher else f"{needed}--condition {conditions}"
        say(
            f"{name}: {about.summary}",
            f"    {dims}; {options}{mask}; {about.steps} steps of {about.batch_size}",
            *(
                f"    --set {key}={text_of(each.default)}: {each.text}; {each.constraint}"
                for key, each in (about.settings.items() if only else ())
            ),
        )
    if not only:
        say("", "Settings of a family: torchgenaug fit list NAME")


def check_order(family: str, data: str | None) -> None:
    """Refuses a folder in the place of the family, which is the first thing that comes to mind.

    Raises:
        ConfigurationError: with the command as it should be.
    """
    from torchgenaug.recipes.build import list_families

    if family in list_families() or not Path(family).expanduser().exists():
        return
    meant = data if data in list_families() else "ddpm"
    raise ConfigurationError(
        f"FAMILY must come before DATA, got {family!r} in its place. For example: torchgenaug fit {meant} {family} "
        "--out my-model. `torchgenaug fit list` explains each family."
    )
