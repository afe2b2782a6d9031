"""TIFF variants: compressions, axes, photometric interpretations."""

from __future__ import annotations

import numpy as np
import pytest

tifffile = pytest.importorskip("tifffile")
Image = pytest.importorskip("PIL.Image")

from torchgenaug.errors import MissingExtraError  # noqa: E402
from torchgenaug.recipes.data.files import read_mask  # noqa: E402
from torchgenaug.recipes.data.load import load_data  # noqa: E402
from torchgenaug.recipes.data.readers.tiff import read_tiff  # noqa: E402


def grey(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(20, 120, shape or (16, 20)).astype(dtype)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", "tiff_adobe_deflate", None])
@pytest.mark.parametrize("colours", [False, True])
def test_compressions_that_pillow_reads(tmp_path, compression, colours):
    array = grey(16, 20, 3) if colours else grey()
    Image.fromarray(array).save(tmp_path / "a.tif", compression=compression)
    expected = np.moveaxis(array, -1, 0) if colours else array[None]
    assert np.array_equal(read_tiff(tmp_path / "a.tif").values, expected)


def test_compressed_pages_are_planes(tmp_path):
    array = grey(4, 16, 20)
    first, *rest = (Image.fromarray(page) for page in array)
    first.save(tmp_path / "a.tif", save_all=True, append_images=rest, compression="tiff_lzw")
    assert np.array_equal(read_tiff(tmp_path / "a.tif").values, array[None])


def test_bilevel(tmp_path):
    array = grey() > 70
    for name, compression in (("a.tif", "group4"), ("b.tif", None)):
        Image.fromarray(array).save(tmp_path / name, compression=compression)
        values = read_tiff(tmp_path / name).values
        assert np.array_equal(values[0] > 0, array)


def test_a_compression_that_nothing_reads_names_the_package(tmp_path):
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("imagecodecs is installed")
    Image.fromarray(grey()).save(tmp_path / "a.tif", compression="tiff_lzw")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    place = data.find(b"\x03\x01\x03\x00\x01\x00\x00\x00\x05\x00")  # the tag Compression, LZW
    data[place + 8 : place + 10] = (34887).to_bytes(2, "little")  # LERC
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(MissingExtraError, match=r"a\.tif is compressed .*imagecodecs.*torchgenaug\[codecs\]"):
        load_data(tmp_path)


@pytest.mark.parametrize(
    ("axes", "shape", "options", "expected"),
    [
        ("ZYX", (3, 16, 20), {"photometric": "minisblack"}, (1, 3, 16, 20)),
        ("ZCYX", (5, 2, 16, 20), {"imagej": True}, (2, 5, 16, 20)),
        ("CYX", (3, 16, 20), {"imagej": True}, (3, 16, 20)),
        ("TYX", (4, 16, 20), {"imagej": True}, (1, 4, 16, 20)),
        ("ZYXS", (4, 16, 20, 3), {"imagej": True, "photometric": "rgb"}, (3, 4, 16, 20)),
        ("CZYX", (2, 5, 16, 20), {"ome": True, "photometric": "minisblack"}, (2, 5, 16, 20)),
        ("ZCYX", (5, 2, 16, 20), {"ome": True, "photometric": "minisblack"}, (2, 5, 16, 20)),
        ("TZCYX", (1, 5, 2, 16, 20), {"ome": True, "photometric": "minisblack"}, (2, 5, 16, 20)),
        ("YXS", (16, 20, 3), {"photometric": "rgb"}, (3, 16, 20)),
        ("SYX", (3, 16, 20), {"photometric": "rgb", "planarconfig": "separate"}, (3, 16, 20)),
    ],
)
def test_axes_are_those_of_the_metadata(tmp_path, axes, shape, options, expected):
    array = grey(*shape)
    metadata = {"axes": axes} if "imagej" in options or "ome" in options else None
    name = "a.ome.tif" if "ome" in options else "a.tif"
    tifffile.imwrite(tmp_path / name, array, metadata=metadata, **options)
    values = read_tiff(tmp_path / name).values
    assert values.shape == expected
    spatial = [axis for axis in axes if axis in "ZT" and shape[axes.index(axis)] > 1]
    order = [axes.index(axis) for axis in [*(a for a in axes if a in "CS"), *spatial, "Y", "X"]]
    kept = array.squeeze(tuple(k for k in range(len(axes)) if k not in order))
    moved = [sorted(order).index(k) for k in order]
    assert np.array_equal(values, kept.transpose(moved).reshape(expected))


def test_two_axes_of_planes_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", grey(2, 3, 16, 20), imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(ValueError, match="one axis of planes at most"):
        read_tiff(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_high(tmp_path, dtype):
    array = grey(dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="miniswhite")
    assert np.array_equal(read_tiff(tmp_path / "a.tif").values[0], np.iinfo(dtype).max - array)


def test_alpha_is_no_channel(tmp_path):
    rgb = grey(16, 20, 3)
    with_alpha = np.dstack([rgb, np.full((16, 20), 255, np.uint8)])
    tifffile.imwrite(tmp_path / "a.tif", with_alpha, photometric="rgb", extrasamples=["unassalpha"])
    assert np.array_equal(read_tiff(tmp_path / "a.tif").values, np.moveaxis(rgb, -1, 0))


def test_a_palette_gives_colours_to_images_and_numbers_to_masks(tmp_path):
    numbers = grey() % 3
    picture = Image.fromarray(numbers).convert("P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    picture.putdata(numbers.flatten().tolist())
    for compression in (None, "tiff_lzw"):
        picture.save(tmp_path / "a.tif", compression=compression)
        assert read_tiff(tmp_path / "a.tif").values.shape == (3, 16, 20)
        assert read_tiff(tmp_path / "a.tif").values.max() == 255
        assert np.array_equal(read_mask([tmp_path / "a.tif"]).values[0].numpy(), numbers)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32, ">u2", np.float64, np.uint32])
def test_types(tmp_path, dtype):
    array = (grey().astype(np.float64) * 7).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", array)
    data = load_data(tmp_path)
    assert data.fields["image"].value_range == (array.min(), array.max())


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_stated_orientation_is_applied(tmp_path, orientation, compression):
    path = tmp_path / "a.tif"
    Image.fromarray(grey(16, 24)).save(path, tiffinfo={274: orientation}, compression=compression)
    decoded = read_tiff(path)
    turn = Image.Transpose
    turns = [turn.FLIP_LEFT_RIGHT, turn.ROTATE_180, turn.FLIP_TOP_BOTTOM, turn.TRANSPOSE, turn.ROTATE_270,
             turn.TRANSVERSE, turn.ROTATE_90]  # fmt: skip
    picture = Image.fromarray(grey(16, 24))
    expected = np.asarray(picture if orientation == 1 else picture.transpose(turns[orientation - 2]))
    assert np.array_equal(decoded.values[0], expected)
    assert bool(decoded.notes) == (orientation > 1)


def test_cmyk_becomes_colours(tmp_path):
    Image.frombytes("CMYK", (24, 16), grey(16, 24, 4).tobytes()).save(tmp_path / "a.tif")
    decoded = read_tiff(tmp_path / "a.tif")
    assert decoded.values.shape == (3, 16, 24)
    assert any("CMYK" in note for note in decoded.notes)


def test_a_picture_that_is_named_as_a_tiff_is_read_as_what_it_is(tmp_path):
    Image.fromarray(grey(16, 24)).save(tmp_path / "a.tif", "PNG")
    decoded = read_tiff(tmp_path / "a.tif")
    assert np.array_equal(decoded.values[0], grey(16, 24))
    assert any("no TIFF" in note for note in decoded.notes)
