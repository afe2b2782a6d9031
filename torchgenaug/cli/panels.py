"""How the options of the longer commands are grouped in their ``--help``."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Annotated, TypeVar, get_type_hints

FIT = {
    "Data": "size spacing images masks folders table volumes limit labelled_only augment balance exchange",
    "Held-out data and privacy": "split held_out anonymous",
    "Model": "condition with_mask width latent_dim sampling_steps guidance_scale teacher start chosen",
    "Training": "steps batch_size learning_rate precision accumulate patience max_minutes seed",
    "Run": "out device workers threads reports fresh dry_run as_json",
}
RENDER = {
    "Samples": "count seed classes class_weights conditions steps truncation value_range",
    "Selection": "no_copies_of keep keep_best keep_above",
    "Real data of --no-copies-of": "images masks folders table volumes spacing",
    "Files": "out shard_size dtype compression extend repair",
    "Run": "batch_size device threads timeout dry_run list_jobs job",
}

Command = TypeVar("Command", bound=Callable[..., None])


def in_panels(panels: Mapping[str, str]) -> Callable[[Command], Command]:
    """A decorator that groups the options of a command in its ``--help``.

    Args:
        panels: heading → names of parameters, separated by spaces.
    """

    def grouped(command: Command) -> Command:
        hints = get_type_hints(command, include_extras=True)
        for heading, names in panels.items():
            for name in names.split():
                option = copy.copy(hints[name].__metadata__[0])  # several commands share some of them
                option.rich_help_panel = heading
                hints[name] = Annotated[hints[name].__origin__, option]
        command.__annotations__ = hints  # what typer reads: evaluated anew, they would be other objects
        return command

    return grouped
