"""``render --no-copies-of`` and ``render --keep``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchgenaug.errors import ConfigurationError
from torchgenaug.pseudonyms import is_among

if TYPE_CHECKING:
    from torchgenaug import ShardSource, SyntheticSequence
    from torchgenaug.recipes.data.training_data import TrainingData

FALSE_ALARMS = 0.01
_MOST_FALSE_ALARMS = 0.1


def without_copies(
    sequence: SyntheticSequence, data: str, reading: Mapping[str, Any] | None = None
) -> tuple[SyntheticSequence, str]:
    """The sequence with a `CopyScreen`, and a line about it.

    Args:
        sequence: what is to be rendered.
        data: the real data, as for `fit`. What the model was trained on are the training images; the others are the
            held-out ones that the screen is calibrated on.
        reading: further arguments of `load_data` for them.

    Raises:
        ConfigurationError: nobody knows which of the data the model was trained on, or too few others.
    """
    from torchgenaug import SyntheticSequence
    from torchgenaug.trust import CopyDetector, CopyScreen
    from torchgenaug.trust.leaks.real_images import RealImages

    train, held_out = _parts(sequence, data, reading or {})
    judged = len(set(held_out.patients)) if held_out.patients else len(held_out)
    rate = max(FALSE_ALARMS, 1 / (judged + 1))
    if rate > _MOST_FALSE_ALARMS:
        raise ConfigurationError(
            f"--no-copies-of needs at least {round(1 / _MOST_FALSE_ALARMS) - 1} images or patients that the model was "
            f"not trained on, got {judged} in {data!r}. What looks like a copy by chance is unknown without them. "
            "Keep more out of training: torchgenaug fit ... --held-out 0.2."
        )
    labels = train.labels(), held_out.labels()
    within = "label" in sequence.fields and labels[0] is not None and labels[1] is not None
    detector = CopyDetector(
        RealImages(train.samples, "image"),
        RealImages(held_out.samples, "image"),
        labels=(labels[0], labels[1]) if within and labels[0] is not None and labels[1] is not None else None,
        patients=held_out.patients or None,
        false_alarm_rate=rate,
    )
    screen = CopyScreen(detector, label_field="label" if within else None)
    screened = SyntheticSequence(
        sequence.synthesizer, sequence.conditions, seed=sequence.seed, screens=[*sequence.screens, screen]
    )
    others = {"mask", "source"} & set(sequence.fields)
    return screened, (
        f"Copies of {len(train)} training images are generated again; calibrated on {judged} others, so that "
        f"{rate:.1%} of honest samples are replaced, too."
        + (f" Likeness that {', '.join(sorted(others))} explains counts as copying." if others else "")
    )


def _parts(sequence: SyntheticSequence, data: str, reading: Mapping[str, Any]) -> tuple[TrainingData, TrainingData]:
    """Training and held-out images, at the size of the synthetic ones."""
    from torchgenaug.cli.real_data import load_again
    from torchgenaug.recipes.data.embedded import LOADERS
    from torchgenaug.recipes.data.load import load_data

    if "image" not in sequence.fields:
        raise ConfigurationError(
            f"--no-copies-of needs samples with an 'image', got {sorted(sequence.fields)}. Name the field so."
        )
    size = sequence.fields["image"].shape[1:]
    record = sequence.trained_on or {}
    every = load_again(data, record, size, reading)
    seen = set(map(str, record.get("samples", ())))
    rows: dict[bool, list[int]] = {True: [], False: []}
    for row, known in enumerate(is_among(every.ids, seen)):
        rows[known].append(row)
    if every.patients:  # an image of a patient who was trained on is no innocent one
        trained = {every.patients[row] for row in rows[True]}
        rows[False] = [row for row in rows[False] if every.patients[row] not in trained]
    if not rows[True]:
        raise ConfigurationError(
            f"--no-copies-of needs a model that knows which samples of {data!r} it was trained on, got one that names "
            f"{len(seen)} samples, none of them there. Give the data that it was fitted on, or state them: "
            "synthesizer.trained_on = {'samples': [...]}, then save_synthesizer(synthesizer, path)."
        )
    train = every.select(rows[True])
    if data in LOADERS:
        return train, load_data(data, split="held_out", size=size)
    if not rows[False]:
        raise ConfigurationError(
            f"--no-copies-of needs images in {data!r} that the model was not trained on, got none. What looks like a "
            "copy by chance is unknown without them. Add held-out images to the folder."
        )
    return train, every.select(rows[False])


def load_rule(name: str | None, best: float | None, above: float | None) -> Any:
    """The rule of ``--keep``, before anything is rendered; None without one.

    Raises:
        ConfigurationError: no such rule, or conditions that do not go with it.
    """
    from torchgenaug.recipes.data.import_name import call_by_name
    from torchgenaug.trust.filters.keep import check_condition

    if name is None:
        if best is not None or above is not None:
            raise ConfigurationError(
                "--keep-best and --keep-above must go with a rule, got none. Nothing was rendered. Name it: --keep "
                "package.module:factory."
            )
        return None
    check_condition(above, best)
    return call_by_name(name, "--keep", "package.module:factory of a rule")


def keep_rendered(source: ShardSource, rule: Any, best: float | None, above: float | None, out: Path) -> str:
    """Scores the samples of a render and writes ``kept.json`` next to the shards; returns a line about it."""
    from torchgenaug.shards.card import write_card
    from torchgenaug.trust import keep
    from torchgenaug.trust.filters.keep import KEPT_NAME

    kept = keep(source, rule, best=best, above=above, progress=out / ".scores.json")
    kept.save(out)
    write_card(
        out,
        source.manifest,
        f"Filter: {len(kept)} of {len(source)} samples were kept ({kept.acceptance_rate:.0%}, {kept.condition}); "
        f"`{KEPT_NAME}` holds the scores of all",
    )
    (out / ".scores.json").unlink(missing_ok=True)
    return (
        f"{len(kept)} of {len(source)} samples kept ({kept.acceptance_rate:.0%}, {kept.condition}): "
        f"{out / KEPT_NAME}. Read them: torchgenaug.trust.load_kept(ShardSource({str(out)!r}), {str(out)!r})."
    )
