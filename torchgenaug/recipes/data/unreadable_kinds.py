"""How to bring files of kinds that are not read into one that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_REMEDIES: Mapping[tuple[str, ...], str] = {
    (".xlsx", ".xls", ".ods"): (
        "save the sheet as CSV, or: python -c \"import pandas; pandas.read_excel('{name}').to_csv('labels.csv', "
        'index=False)"'
    ),
    (".parquet", ".arrow", ".feather"): (
        "give a function that returns the data set, package.module:factory, for example of "
        "datasets.load_dataset('parquet', data_files='{name}')['train']"
    ),
    (".zip", ".tar", ".tgz", ".gz", ".rar", ".7z", ".bz2", ".xz"): "unpack them",
    (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib"): (
        "reading them could run code: save arrays with numpy.savez, or give a function that returns the data set"
    ),
    (".svs", ".ndpi", ".mrxs", ".scn", ".czi", ".vsi"): "whole slides and microscope files: save tiles as PNG or TIFF",
    (".tfrecord", ".tfrecords", ".lmdb", ".mdb", ".zarr"): (
        "give a function that returns a data set over them: package.module:factory"
    ),
    (".mp4", ".avi", ".mov", ".mkv"): "videos: save frames as PNG (ffmpeg -i {name} frame%05d.png)",
    (".heic", ".avif", ".cr2", ".dng"): "save them as PNG or TIFF",
}


def remedies(names: Sequence[str]) -> tuple[str, ...]:
    """A sentence for each kind of file among these, which no reader is for, on what to do with it."""
    found = []
    for endings, remedy in _REMEDIES.items():
        of_kind = [name for name in names if name.lower().endswith(endings)]
        if of_kind:
            count = f"{len(of_kind)} files like {of_kind[0]} were" if len(of_kind) > 1 else f"{of_kind[0]} was"
            found.append(f"{count} not read; {remedy.format(name=of_kind[0])}.")
    return tuple(found)


__all__ = ["remedies"]
