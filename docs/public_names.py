"""Writes one reference page per public name, and a list of them per room, before Sphinx reads the sources.

The names come from the ``__all__`` of the package and of its public rooms: a new public name has its page without being
entered anywhere.
"""

from __future__ import annotations

import importlib
import inspect
import shutil
from pathlib import Path

import torchgenaug

ROOMS = {
    "mixing": "Mixing",
    "plan": "Plan",
    "sequence": "Sequence of samples",
    "pool": "Pool",
    "shards": "Shards",
    "sources": "Sources",
    "synthesizers": "Synthesizers",
    "conditions": "Conditions",
    "screens": "Screens",
    "types": "Field specifications",
}
"""First part of a public name's home → heading of its list."""

MODULES = {
    "torchgenaug.recipes": "Training a generative model",
    "torchgenaug.metrics": "Measures",
    "torchgenaug.trust": "Copies and leaks",
    "torchgenaug.export": "Files for other programs",
    "torchgenaug.study": "Studies",
    "torchgenaug.lightning": "Lightning",
    "torchgenaug.trainers.huggingface": "Hugging Face Trainer",
    "torchgenaug.trainers.ignite": "MONAI and ignite",
    "torchgenaug.trainers.nnunet": "nnU-Net",
    "torchgenaug.contracts": "Extension protocols",
    "torchgenaug.errors": "Errors and warnings",
    "torchgenaug.testing": "Testing your own parts",
    "torchgenaug.seeding": "Seeding",
    "torchgenaug.pictures": "Pictures",
}
"""Modules whose public names have a list of their own; those that are not there are passed over."""


def write_pages(folder: Path) -> None:
    """Writes ``<list>.md`` and ``<list>/<name>.md`` below `folder`, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    for slug, (title, names) in groups().items():
        (folder / slug).mkdir(parents=True)
        rows = []
        for path in sorted(names, key=lambda name: name.rsplit(".", 1)[1].lower()):
            module, name = path.rsplit(".", 1)
            value = getattr(importlib.import_module(module), name)
            _write_name(folder / slug / f"{name}.md", module, name, value)
            rows.append(f"| [`{name}`]({slug}/{name}.md) | {_first_line(value)} |")
        toc = f"```{{toctree}}\n:hidden:\n:glob:\n\n{slug}/*\n```\n"
        table = "\n".join(["| Name | |", "|---|---|", *rows])
        (folder / f"{slug}.md").write_text(f"# {title}\n\n{table}\n\n{toc}", encoding="utf-8")


def groups() -> dict[str, tuple[str, list[str]]]:
    """File name → (heading, dotted names), in the order of the reference."""
    found: dict[str, tuple[str, list[str]]] = {room: (title, []) for room, title in ROOMS.items()}
    for name in torchgenaug.__all__:
        room = torchgenaug._HOMES[name].split(".")[0]
        found.setdefault(room, (room.capitalize(), []))[1].append(f"torchgenaug.{name}")
    for module, title in MODULES.items():
        try:
            loaded = importlib.import_module(module)
        except ImportError as error:
            if error.name is not None and not error.name.startswith("torchgenaug"):
                raise
            continue
        names = [f"{module}.{name}" for name in _public(loaded) if name not in torchgenaug.__all__]
        if names:
            slug = module.rsplit(".", 1)[1]
            title_and_names = found.setdefault(slug, (title, []))
            title_and_names[1].extend(names)
    return {slug: (title, names) for slug, (title, names) in found.items() if names}


def _public(module: object) -> list[str]:
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return list(listed)
    own = getattr(module, "__name__", "")
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", None) == own
    ]


def _write_name(path: Path, module: str, name: str, value: object) -> None:
    kind = "autoclass" if inspect.isclass(value) else "autofunction" if callable(value) else "autodata"
    path.write_text(f"# {name}\n\n```{{eval-rst}}\n.. {kind}:: {module}.{name}\n```\n", encoding="utf-8")


def _first_line(value: object) -> str:
    text = inspect.getdoc(value) if inspect.isclass(value) or callable(value) else None
    return (text or "").strip().splitlines()[0].replace("``", "`").replace("|", "\\|") if text else ""
