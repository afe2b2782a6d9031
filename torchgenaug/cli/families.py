"""``torchgenaug fit list``."""

from __future__ import annotations

import json

from torchgenaug.cli.output import say


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
