"""Pictures: depths, modes, palettes, orientation, animations."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image")

from torchgenaug.recipes.data.files import read_image, read_mask  # noqa: E402
from torchgenaug.recipes.data.load import load_data  # noqa: E402
from torchgenaug.recipes.data.readers.pictures import read_picture  # noqa: E402


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def deep_png(path, array, colour_type):
    """A PNG of 16 bits, which Pillow cannot write with colours."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)

    def part(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, colour_type, 0, 0, 0)
    parts = part(b"IHDR", head) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


@pytest.mark.parametrize(("colour_type", "samples", "kept"), [(0, 1, 1), (2, 3, 3), (4, 2, 1), (6, 4, 3)])
def test_png_of_16_bits(tmp_path, colour_type, samples, kept):
    """Grey and colours, also with alpha: all bits are kept, alpha is left out, stated where it varies."""
    array = np.random.default_rng(0).integers(0, 65536, (12, 16, samples)).astype(np.uint16)
    deep_png(tmp_path / "a.png", array, colour_type)
    decoded = read_picture(tmp_path / "a.png")
    assert decoded.values.dtype == np.uint16
    assert np.array_equal(decoded.values, np.moveaxis(array, -1, 0)[:kept])
    assert decoded.notes == (("transparency, which varies, was left out",) if samples > kept else ())
    array[..., kept:] = 65535
    deep_png(tmp_path / "b.png", array, colour_type)
    assert read_picture(tmp_path / "b.png").notes == ()


def test_png_of_16_bits_is_turned(tmp_path):
    """By EXIF, as the same picture of 8 bits is."""
    array = np.random.default_rng(0).integers(0, 65536, (12, 16, 2)).astype(np.uint16)
    deep_png(tmp_path / "a.png", array, 4)
    exif = Image.Exif()
    exif[0x0112] = 6
    content = (tmp_path / "a.png").read_bytes()
    body = b"eXIf" + exif.tobytes()[6:]
    part = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "a.png").write_bytes(content[:33] + part + content[33:])
    decoded = read_picture(tmp_path / "a.png")
    assert np.array_equal(decoded.values[0], np.rot90(array[..., 0], -1))
    assert any("EXIF" in note for note in decoded.notes)


def test_ppm_of_12_bits_keeps_its_unit(tmp_path):
    array = np.random.default_rng(0).integers(0, 4096, (12, 16, 3)).astype(">u2")
    (tmp_path / "a.ppm").write_bytes(b"P6\n# 16 x 12\n16 12\n4095\n" + array.tobytes())
    assert np.array_equal(read_picture(tmp_path / "a.ppm").values, np.moveaxis(array, -1, 0))


def test_a_reduction_to_8_bits_is_stated(tmp_path):
    (tmp_path / "a.ppm").write_text("P3\n2 1\n4095\n1 2 3 4095 5 6\n")
    assert "8 bits" in read_picture(tmp_path / "a.ppm").notes[0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    picture = Image.fromarray(np.tri(16, 24, dtype=np.uint8) * 200)
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.png", exif=exif)
    decoded = read_picture(tmp_path / "a.png")
    assert decoded.values.shape == ((1, 24, 16) if orientation > 4 else (1, 16, 24))
    assert bool(decoded.notes) == (orientation > 1)
    if orientation == 3:
        assert np.array_equal(decoded.values[0], np.asarray(picture)[::-1, ::-1])


@pytest.mark.parametrize("ending", ["png", "bmp", "gif", "webp", "pgm", "tga", "jp2", "PNG", "Gif"])
def test_grey(tmp_path, ending):
    array = noise(16, 20)
    options = {"lossless": True} if ending == "webp" else {"irreversible": False} if ending == "jp2" else {}
    Image.fromarray(array).save(tmp_path / f"a.{ending}", **options)
    values = read_picture(tmp_path / f"a.{ending}").values
    assert all(np.array_equal(channel, array) for channel in values)
    assert ending == "webp" or len(values) == 1


@pytest.mark.parametrize("ending", ["png", "bmp", "webp", "ppm", "tga"])
def test_colours(tmp_path, ending):
    array = noise(16, 20, 3)
    Image.fromarray(array).save(tmp_path / f"a.{ending}", **({"lossless": True} if ending == "webp" else {}))
    assert np.array_equal(read_picture(tmp_path / f"a.{ending}").values, np.moveaxis(array, -1, 0))


@pytest.mark.parametrize("mode", ["LA", "RGBA", "1", "P", "CMYK", "I;16", "F"])
def test_modes(tmp_path, mode):
    names = {"CMYK": "a.jpg", "I;16": "a.png", "F": "a.tiff"}
    picture = Image.fromarray(noise(16, 20)).convert("RGB" if mode in ("P", "CMYK") else "L").convert(mode)
    picture.save(tmp_path / names.get(mode, "a.png"))
    values = read_image([tmp_path / names.get(mode, "a.png")]).values
    assert len(values) == (3 if mode in ("RGBA", "CMYK", "P") else 1)
    assert values.max() > 1


def test_pgm_of_12_bits_keeps_its_unit(tmp_path):
    array = np.random.default_rng(0).integers(0, 4096, (16, 20)).astype(">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5\n20 16\n4095\n" + array.tobytes())
    assert np.array_equal(read_picture(tmp_path / "a.pgm").values[0], array)


@pytest.mark.parametrize(
    ("mode", "channels", "note"),
    [("RGBA", 4, "transparency"), ("LA", 2, "transparency"), ("CMYK", 4, "CMYK")],
)
def test_what_colours_lose_is_stated(tmp_path, mode, channels, note):
    ending = "jpg" if mode == "CMYK" else "png"
    Image.frombytes(mode, (20, 16), noise(16, 20, channels).tobytes()).save(tmp_path / f"a.{ending}")
    assert any(note in each for each in read_picture(tmp_path / f"a.{ending}").notes)
    if mode != "CMYK":
        opaque = noise(16, 20, channels)
        opaque[..., -1] = 255
        Image.frombytes(mode, (20, 16), opaque.tobytes()).save(tmp_path / "b.png")
        assert read_picture(tmp_path / "b.png").notes == ()


def test_an_animation_is_a_volume(tmp_path):
    frames = [Image.fromarray(noise(16, 20) // (k + 1)) for k in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    decoded = read_picture(tmp_path / "a.gif")
    assert decoded.values.shape == (1, 3, 16, 20)
    assert "frames" in decoded.notes[0]


def test_masks_with_palettes(tmp_path):
    """Of a coloured palette the numbers are the classes, of a grey one the greys."""
    numbers = noise(16, 20) % 2
    picture = Image.fromarray(numbers).convert("P")
    picture.putdata(numbers.flatten().tolist())
    picture.putpalette([255, 255, 255, 0, 0, 0])
    picture.save(tmp_path / "a.gif")
    assert np.array_equal(read_mask([tmp_path / "a.gif"]).values[0].numpy() > 0, numbers == 0)
    picture.putpalette([0, 0, 0, 128, 0, 0])
    picture.save(tmp_path / "a.png")
    assert np.array_equal(read_mask([tmp_path / "a.png"]).values[0].numpy(), numbers)


def test_a_pointer_of_git_lfs_is_named(tmp_path):
    (tmp_path / "a.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(ValueError, match=r"a\.png.*git lfs pull"):
        load_data(tmp_path)
