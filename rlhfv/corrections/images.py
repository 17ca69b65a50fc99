"""Images as they come in: checked, cleaned once, named by their content.

The cleaned bytes are what is shown, trained on and published.
"""

import hashlib
import io
import os
import re
import struct
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from rlhfv.corrections.metadata import CLEANERS
from rlhfv.errors import InvalidImage, NotFound

MAX_BYTES = 20 * 1024 * 1024
MAX_PIXELS = 40_000_000

IMAGE_NAME = re.compile(r"[0-9a-f]{64}\.(?:png|jpg|webp)")
ORIGINAL_NAME = re.compile(r"[0-9a-f]{64}\.original")

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_SUFFIXES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
_GREY_16_BITS = "I;16"
_ORIENTATION = 0x0112
# The brands by which a file of that family says that its pictures are coded in HEVC.
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}


@dataclass(frozen=True)
class StoredImage:
    """An image on the shelf. `name` is the sha256 of its bytes with a suffix; width and height are in pixels."""

    name: str
    width: int
    height: int
    bytes: int


class ImageShelf:
    """A folder of cleaned images, each named by its content, so that the same picture is kept once."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self._decoding = threading.Lock()  # one decoded picture at a time bounds the memory of many uploads

    def intake(self, data: bytes) -> StoredImage:
        """Checks, cleans and keeps an image; what is already there is kept as it is.

        Metadata (GPS, camera, comments, thumbnails) is cut out of JPEG, PNG and WebP without touching a pixel. A
        picture that has to be turned, and one in another format, is encoded anew.

        Raises:
            InvalidImage: not an image, a format that is not taken, too large, or cut off.
        """
        with self._decoding:
            cleaned, suffix, (width, height) = clean_image(data)
        name = f"{hashlib.sha256(cleaned).hexdigest()}.{suffix}"
        self._write(name, cleaned)
        return StoredImage(name, width, height, len(cleaned))

    def keep_original(self, data: bytes) -> str:
        """Keeps bytes as they came, for an export that has to give them back; returns the name that `original` knows.

        They hold what cleaning takes away, so they are never shown, trained on or published.
        """
        name = f"{hashlib.sha256(data).hexdigest()}.original"
        self._write(name, data)
        return name

    def path(self, name: str) -> Path:
        """The file of a stored image. Raises NotFound for any other name: no path from outside gets through."""
        return self._find(name, IMAGE_NAME)

    def original(self, name: str) -> Path:
        """The file of what `keep_original` kept. Raises NotFound for any other name."""
        return self._find(name, ORIGINAL_NAME)

    def _find(self, name: str, known: re.Pattern) -> Path:
        path = self.folder / name if isinstance(name, str) and known.fullmatch(name) else None
        if path is None or not path.is_file():
            raise NotFound(
                f"There is no image named {name!r:.80}.",
                "Images are known by the sha256 of their bytes, and none with that name was stored here.",
                "Upload the image again.",
            )
        return path

    def _write(self, name: str, data: bytes) -> None:
        target = self.folder / name
        if target.is_file():
            os.utime(target)  # it came again just now: what deletes old pictures must not take it
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=".intake-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def clean_image(data: bytes) -> tuple[bytes, str, tuple[int, int]]:
    """The bytes to keep, their suffix, and width and height in pixels. Cleaning what is clean changes no byte.

    Raises:
        InvalidImage: as `ImageShelf.intake`.
    """
    if len(data) > MAX_BYTES:
        raise InvalidImage(
            f"The file has {len(data) / 2**20:.1f} MB.",
            f"An image may have {MAX_BYTES // 2**20} MB.",
            "Save it smaller or as JPEG.",
        )
    if is_heic(data):
        raise InvalidImage(
            "This is a HEIC photo, which this studio cannot read.",
            "Phones keep photos in this format, and few other programs know it.",
            "Save or share it as JPEG, or take a screenshot of it. An iPhone takes JPEG after Settings, Camera, "
            "Formats, Most Compatible.",
        )
    image = _open(data)
    if _can_stay(image):
        try:
            cleaned, suffix = CLEANERS[image.format](data), _SUFFIXES[image.format.replace("MPO", "JPEG")]
        except (ValueError, struct.error) as error:
            raise _broken(error) from error
    else:
        cleaned, suffix = _encode_anew(image)
    kept = _open(cleaned)
    _decode(kept)
    return cleaned, suffix, kept.size


def is_heic(data: bytes) -> bool:
    """Whether the first bytes say that this is a HEIC picture, as iPhones and some others take them.

    ISO/IEC 23008-12: a box "ftyp" with the main brand and those that it is compatible with, four letters each.
    """
    if data[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))}
    return bool(brands & _HEIC_BRANDS) and not brands & {b"avif", b"avis"}


def _can_stay(image: Image.Image) -> bool:
    """Whether cutting out metadata is enough: upright, still, and with 8 bits a channel, as models take it.

    An animated PNG or a JPEG with several pictures becomes still by losing its further segments; a WebP does not.
    """
    if image.format not in CLEANERS or (image.format == "WEBP" and image.n_frames > 1) or image.mode == _GREY_16_BITS:
        return False
    try:
        return image.getexif().get(_ORIENTATION, 1) not in range(2, 9)
    except Exception:  # unreadable EXIF turns nothing, and it goes anyway
        return True


def _open(data: bytes) -> Image.Image:
    """Reads the header only; the size is checked before any pixel is decoded."""
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InvalidImage(
            "The image declares far more pixels than a photo has.",
            f"An image may have {MAX_PIXELS:,} pixels.",
            "Save it smaller.",
        ) from error
    except Exception as error:  # Pillow's parsers raise many types on hostile bytes
        raise InvalidImage(
            "The file could not be read as an image.",
            f"It is none of the formats taken ({', '.join(_FORMATS)}), or it is damaged.",
            "Choose another file, or open it in an image program and save it as PNG.",
        ) from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InvalidImage(
            f"The image has {width} × {height} = {width * height:,} pixels.",
            f"An image may have {MAX_PIXELS:,}.",
            "Save it smaller.",
        )
    return image


def _decode(image: Image.Image) -> None:
    try:
        image.load()
    except Exception as error:
        raise _broken(error) from error


def _broken(error: Exception) -> InvalidImage:
    return InvalidImage(
        "The image is cut off or damaged.",
        f"It could not be decoded to its end ({error}).",
        "Send the file again, or open it in an image program and save it anew.",
    )


def _encode_anew(image: Image.Image) -> tuple[bytes, str]:
    """The first frame, turned upright; JPEG stays JPEG, all else becomes PNG, which loses nothing."""
    _decode(image)
    profile = image.info.get("icc_profile")
    upright = ImageOps.exif_transpose(image)
    to_jpeg = image.format in ("JPEG", "MPO")
    if upright.mode == _GREY_16_BITS:
        upright = upright.point(lambda value: value / 256).convert("L")
    if not to_jpeg and upright.mode not in _PNG_MODES:
        profile = None  # it described the other colour space
        upright = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    buffer = io.BytesIO()
    try:
        if to_jpeg:
            upright.save(buffer, "JPEG", quality=95, subsampling=0, icc_profile=profile)
            encoded = CLEANERS["JPEG"](buffer.getvalue())
        else:
            upright.save(buffer, "PNG", icc_profile=profile)
            encoded = CLEANERS["PNG"](buffer.getvalue())
    except (OSError, ValueError) as error:
        raise _broken(error) from error
    if len(encoded) > MAX_BYTES:
        raise InvalidImage(
            f"Stored without loss the image has {len(encoded) / 2**20:.1f} MB.",
            f"An image may have {MAX_BYTES // 2**20} MB.",
            "Save it smaller or as JPEG.",
        )
    return encoded, "jpg" if to_jpeg else "png"
