import hashlib
import io
import os
import random
import struct
import threading
import zlib

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin, features

from rlhfv.corrections import images
from rlhfv.corrections.images import MAX_BYTES, ImageShelf, clean_image
from rlhfv.errors import InvalidImage, NotFound

SECRET = b"SECRET-7f3a"
LATITUDE = (48.0, 8.0, 51.25)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def photo(size=(64, 48), mode="RGB"):
    pixels = numpy.random.default_rng(3).integers(0, 256, (size[1], size[0], 4), dtype=numpy.uint8)
    return Image.fromarray(pixels, "RGBA").convert(mode)


def exif(orientation=None):
    data = Image.Exif()
    data[0x010E] = SECRET.decode()
    data[0x8825] = {1: "N", 2: LATITUDE, 3: "E", 4: (11.0, 34.0, 2.5)}
    if orientation:
        data[0x0112] = orientation
    return data.tobytes()


def gps_traces(data):
    """Where a position can be read, by parsing and by search for the bytes a GPS block is made of."""
    image = Image.open(io.BytesIO(data))
    rational = struct.pack("<II", 48, 1), struct.pack(">II", 48, 1)
    found = [name for name in (b"Exif\0\0", b"GPS", b"http://ns.adobe.com", SECRET, *rational) if name in data]
    return found, dict(image.getexif()), dict(image.getexif().get_ifd(0x8825)), image.info.get("xmp")


def with_jpeg_segments(data, *segments):
    packed = b"".join(bytes((255, m)) + struct.pack(">H", len(body) + 2) + body for m, body in segments)
    return data[:2] + packed + data[2:]


def with_png_chunks(data, *chunks):
    end = data.rindex(b"IEND") - 4
    packed = b"".join(struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)
    return data[:end] + packed + data[end:]


def pixels(data):
    image = Image.open(io.BytesIO(data))
    return image.mode, numpy.asarray(image)


# ---- metadata


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_gps_is_gone_pixels_and_profile_stay_and_nothing_is_encoded_anew(encode, shelf, format):
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/' gps='GPS'>" + SECRET + b"</x:xmpmeta>"
    options = {} if format == "PNG" else {"xmp": xmp}
    data = encode(photo(), format, exif=exif(), icc_profile=PROFILE, **options)
    found, tags, gps, _ = gps_traces(data)
    assert SECRET in found and tags and gps  # the test would see them

    stored = shelf.intake(data)
    kept = shelf.path(stored.name).read_bytes()
    assert gps_traces(kept) == ([], {}, {}, None)
    assert Image.open(io.BytesIO(kept)).info["icc_profile"] == PROFILE
    assert pixels(kept)[0] == pixels(data)[0]
    assert numpy.array_equal(pixels(kept)[1], pixels(data)[1])
    assert (
        stored.name == f"{hashlib.sha256(kept).hexdigest()}.{ {'JPEG': 'jpg', 'PNG': 'png', 'WEBP': 'webp'}[format] }"
    )
    assert (stored.width, stored.height, stored.bytes) == (64, 48, len(kept))


@pytest.mark.filterwarnings("ignore:.*malformed MPO")
def test_jpeg_comments_iptc_previews_and_what_follows_the_end_are_cut(encode):
    data = with_jpeg_segments(
        encode(photo(), "JPEG", progressive=True, comment=SECRET),
        (0xED, b"Photoshop 3.0\0" + SECRET),
        (0xE2, b"MPF\0" + SECRET),
        (0xE0, b"JFXX\0\x10" + SECRET),
        (0xE7, SECRET),
        (0xFE, SECRET),
    )
    kept, suffix, _ = clean_image(data + b"\xff\xd8" + SECRET)
    assert suffix == "jpg"
    assert SECRET not in kept and kept.endswith(b"\xff\xd9")
    assert numpy.array_equal(pixels(kept)[1], pixels(data)[1])


def test_jfif_thumbnail_is_cut(encode):
    data = encode(photo(), "JPEG")
    assert data[2:4] == b"\xff\xe0"
    thumbnail = b"JFIF\0\1\1\0\0\1\0\1\4\3" + (SECRET * 4)[:36]
    data = data[:2] + b"\xff\xe0" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + data[20:]
    kept, _, _ = clean_image(data)
    assert SECRET not in kept
    assert numpy.array_equal(pixels(kept)[1], pixels(data)[1])


def test_cmyk_jpeg_keeps_its_colour_marker(encode):
    data = encode(photo(mode="CMYK"), "JPEG", exif=exif())
    kept, _, _ = clean_image(data)
    assert pixels(kept)[0] == "CMYK"
    assert numpy.array_equal(pixels(kept)[1], pixels(data)[1])


def test_png_texts_times_and_private_chunks_are_cut_and_transparency_stays(encode):
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", SECRET.decode())
    text.add_text("Location", SECRET.decode(), zip=True)
    text.add_itxt("XML:com.adobe.xmp", SECRET.decode())
    image = photo(mode="P")
    data = encode(image, "PNG", pnginfo=text, transparency=3, exif=exif(), gamma=0.45)
    data = with_png_chunks(data, (b"tIME", b"\x07\xe9\1\2\3\4\5"), (b"prVt", SECRET), (b"tEXt", b"a\0" + SECRET))
    kept, suffix, _ = clean_image(data + SECRET)
    assert suffix == "png"
    for name in (SECRET, b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"tIME", b"prVt"):
        assert name not in kept
    assert b"tRNS" in kept
    assert numpy.array_equal(pixels(kept)[1], pixels(data)[1])


def test_animated_png_becomes_its_first_picture(encode):
    frames = [photo(), photo().transpose(Image.Transpose.ROTATE_180)]
    kept, _, _ = clean_image(encode(frames[0], "PNG", save_all=True, append_images=frames[1:]))
    assert b"acTL" not in kept and b"fdAT" not in kept
    assert numpy.array_equal(pixels(kept)[1], numpy.asarray(frames[0]))


def test_webp_flags_say_what_is_left(encode):
    kept, suffix, _ = clean_image(encode(photo(mode="RGBA"), "WEBP", lossless=True, exif=exif(), xmp=SECRET))
    assert suffix == "webp"
    assert kept[12:16] == b"VP8X" and not kept[20] & 0x0E
    assert struct.unpack("<I", kept[4:8])[0] == len(kept) - 8
    assert b"EXIF" not in kept and b"XMP " not in kept


def test_animated_webp_becomes_its_first_picture_as_png(encode):
    frames = [photo(), photo().transpose(Image.Transpose.ROTATE_180)]
    data = encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    kept, suffix, _ = clean_image(data)
    assert suffix == "png"
    assert numpy.array_equal(pixels(kept)[1], numpy.asarray(frames[0]))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(encode, format, orientation):
    image = Image.new("RGB", (32, 16), "white")
    image.paste("red", (0, 0, 16, 8))
    options = (
        {"quality": 100, "subsampling": 0} if format == "JPEG" else {"lossless": True} if format == "WEBP" else {}
    )
    data = encode(image, format, exif=exif(orientation), icc_profile=PROFILE, **options)
    kept, suffix, size = clean_image(data)
    corners = {1: "tl", 2: "tr", 3: "br", 4: "bl", 5: "tl", 6: "tr", 7: "br", 8: "bl"}
    width, height = size
    assert size == ((32, 16) if orientation < 5 else (16, 32))
    place = {"t": height // 4, "b": 3 * height // 4, "l": width // 4, "r": 3 * width // 4}
    vertical, horizontal = corners[orientation]
    shown = Image.open(io.BytesIO(kept)).convert("RGB")
    red, green, _ = shown.getpixel((place[horizontal], place[vertical]))
    assert red > 200 and green < 60
    assert sum(p[1] < 60 for p in shown.get_flattened_data()) == pytest.approx(128, abs=24)
    assert gps_traces(kept)[:3] == ([], {}, {})
    assert Image.open(io.BytesIO(kept)).info["icc_profile"] == PROFILE
    assert suffix == ("jpg" if format == "JPEG" else "webp" if format == "WEBP" and orientation == 1 else "png")


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_other_formats_become_png(encode, format, mode):
    if format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow cannot write AVIF")
    image = photo(mode=mode)
    if format == "BMP" and mode == "RGBA":
        image = image.convert("RGB")
    data = encode(image, format)
    kept, suffix, _ = clean_image(data)
    assert suffix == "png"
    before, after = (Image.open(io.BytesIO(d)).convert("RGBA") for d in (data, kept))
    assert numpy.array_equal(numpy.asarray(before), numpy.asarray(after))
    assert kept.startswith(b"\x89PNG")


def test_cmyk_tiff_loses_the_profile_of_the_colours_it_no_longer_has(encode):
    kept, _, _ = clean_image(encode(photo(mode="CMYK"), "TIFF", icc_profile=PROFILE))
    assert Image.open(io.BytesIO(kept)).mode == "RGB"
    assert "icc_profile" not in Image.open(io.BytesIO(kept)).info


def test_16_bit_grey_keeps_its_brightness(encode):
    kept, _, _ = clean_image(encode(Image.new("I;16", (4, 4), 0x8000), "PNG"))
    assert Image.open(io.BytesIO(kept)).convert("RGB").getpixel((0, 0)) == (128, 128, 128)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_cleaning_what_is_clean_changes_no_byte(encode, shelf, format):
    first = shelf.intake(encode(photo(), format))
    again = shelf.intake(shelf.path(first.name).read_bytes())
    assert again == first
    assert [path.name for path in shelf.folder.iterdir()] == [first.name]


# ---- limits


def png_header(width, height):
    ihdr = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    idat = zlib.compress(b"\0" * 1000)
    chunks = ((b"IHDR", ihdr), (b"IDAT", idat), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks
    )


@pytest.mark.parametrize(("width", "height"), [(10_000, 5_000), (8_000, 5_001), (60_000, 60_000), (2**31 - 1, 1)])
def test_bombs_are_refused_by_their_header(monkeypatch, width, height):
    monkeypatch.setattr(images, "_decode", lambda image: pytest.fail("a pixel was decoded"))
    with pytest.raises(InvalidImage) as caught:
        clean_image(png_header(width, height))
    assert "40,000,000" in caught.value.why


def test_real_50_megapixel_bomb_is_refused(encode):
    data = encode(Image.new("L", (10_000, 5_000)), "PNG")
    assert len(data) < 100_000
    with pytest.raises(InvalidImage, match="50,000,000"):
        clean_image(data)


def test_text_bomb_in_a_png_is_refused_or_cut(encode):
    data = with_png_chunks(encode(photo()), (b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 20_000_000)))
    try:
        kept, _, _ = clean_image(data)
    except InvalidImage:
        return
    assert b"zTXt" not in kept


def test_too_many_bytes_are_refused():
    with pytest.raises(InvalidImage, match="20 MB"):
        clean_image(b"\0" * (MAX_BYTES + 1))


@pytest.mark.parametrize(
    ("brands", "told"),
    [
        (b"heic\0\0\0\0mif1heic", True),
        (b"mif1\0\0\0\0mif1heix", True),
        (b"hevc\0\0\0\0", True),
        (b"avif\0\0\0\0mif1avif", False),
        (b"mp42\0\0\0\0isom", False),
    ],
)
def test_heic_is_refused_by_its_first_bytes_with_what_to_do(brands, told):
    data = (8 + len(brands)).to_bytes(4, "big") + b"ftyp" + brands + b"\0\0\0\x20meta heic"
    with pytest.raises(InvalidImage) as refused:
        clean_image(data)
    assert ("HEIC" in refused.value.what and "JPEG" in refused.value.fix) == told


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"<svg onload=alert(1)>", b"%PDF-1.7", b"\xff\xd8", b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_no_image_is_refused_in_three_parts(data, shelf):
    with pytest.raises(InvalidImage) as caught:
        shelf.intake(data)
    assert caught.value.what and caught.value.why and caught.value.fix
    assert not shelf.folder.exists()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_truncated_files_are_refused(encode, format, part):
    data = encode(photo((200, 150)), format)
    with pytest.raises(InvalidImage):
        clean_image(data[: int(len(data) * part)])


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it mends
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_damaged_files_are_read_or_refused_and_nothing_else(encode, format, seed):
    chance = random.Random(seed)
    data = bytearray(encode(photo((40, 30)), format, **({} if format in ("GIF", "BMP") else {"exif": exif()})))
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(min(len(data), chance.choice([32, 300, 10**6])))] = chance.randrange(256)
    try:
        kept, _, _ = clean_image(bytes(data))
    except InvalidImage:
        return
    assert clean_image(kept)[0] == kept
    assert SECRET not in kept


# ---- the shelf


@pytest.mark.parametrize(
    "name",
    ["../studio.db", "/etc/passwd", "a" * 64 + ".png/..", "A" * 64 + ".png", "a" * 64 + ".svg", "", "\0", None, 3],
)
def test_no_other_name_leads_to_a_file(shelf, name):
    with pytest.raises(NotFound):
        shelf.path(name)


def test_unknown_image_is_not_found(shelf):
    with pytest.raises(NotFound):
        shelf.path("a" * 64 + ".png")


def test_many_threads_take_in_the_same_image(encode, tmp_path):
    shelf, data, names = ImageShelf(tmp_path / "shelf"), encode(photo()), []
    threads = [threading.Thread(target=lambda: names.append(shelf.intake(data).name)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 8 and len(set(names)) == 1
    assert [path.name for path in shelf.folder.iterdir()] == names[:1]


def test_failed_write_leaves_nothing(encode, shelf, monkeypatch):
    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError):
        shelf.intake(encode(photo()))
    assert list(shelf.folder.iterdir()) == []


def test_an_original_is_kept_beside_the_pictures_and_never_shown(encode, shelf):
    tags = Image.Exif()
    tags[0x010E] = SECRET.decode()
    data = encode(photo(), "JPEG", exif=tags)
    name, original = shelf.intake(data).name, shelf.keep_original(data)
    assert shelf.keep_original(data) == original
    assert shelf.original(original).read_bytes() == data and SECRET not in shelf.path(name).read_bytes()
    for wrong in (original, name):
        with pytest.raises(NotFound):
            (shelf.path if wrong == original else shelf.original)(wrong)
    with pytest.raises(NotFound):
        shelf.original("../" + original)
