"""Cuts metadata out of image files by their segments and chunks; no pixel is decoded, so none can change.

What is needed to decode the picture and to show its colours stays; everything else goes, known or not: EXIF with its
GPS position and thumbnail, XMP, IPTC, comments, text, times, previews, and whatever follows the end of the picture.
All functions raise ValueError for a file that is cut off or whose structure is broken.
"""

import re
import struct

# In a scan, FF00 is a byte FF and FFD0-D7 are restarts. `\xff\xff*` is looked for ten times as quickly as `\xff+`.
_JPEG_SCAN_END = re.compile(rb"\xff\xff*[^\x00\xff\xd0-\xd7]")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = frozenset(
    (
        b"IHDR",
        b"PLTE",
        b"IDAT",
        b"IEND",
        b"tRNS",
        b"gAMA",
        b"cHRM",
        b"sRGB",
        b"iCCP",
        b"sBIT",
        b"cICP",
        b"mDCV",
        b"cLLI",
    )
)
_WEBP_KEPT = frozenset((b"VP8 ", b"VP8L", b"ALPH", b"ICCP"))
_WEBP_METADATA_FLAGS = 0x08 | 0x04 | 0x02  # EXIF, XMP, animation


def clean_jpeg(data: bytes) -> bytes:
    """Keeps the coding segments, JFIF, Adobe's colour marker and the ICC profile (ISO/IEC 10918-1, annex B)."""
    if data[:2] != b"\xff\xd8":
        raise ValueError("it does not begin with a JPEG start marker")
    kept, position = [b"\xff\xd8"], 2
    while True:
        if data[position : position + 1] != b"\xff":
            raise ValueError(f"no JPEG marker at byte {position}")
        while data[position + 1 : position + 2] == b"\xff":
            position += 1
        marker = data[position + 1 : position + 2]
        if marker == b"\xd9":
            return b"".join(kept) + b"\xff\xd9"
        if not marker or marker == b"\x00":
            raise ValueError("the JPEG ends inside its headers")
        if marker in b"\x01\xd0\xd1\xd2\xd3\xd4\xd5\xd6\xd7\xd8":
            position += 2
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        end = position + 2 + length
        if length < 2 or end > len(data):
            raise ValueError("a JPEG segment reaches beyond the file")
        kept.append(_kept_jpeg_segment(marker[0], data[position:end]))
        position = end
        if marker == b"\xda":
            found = _JPEG_SCAN_END.search(data, position)
            if found is None:
                raise ValueError("the JPEG has no end marker")
            kept.append(data[position : found.start()])
            position = found.start()


def _kept_jpeg_segment(marker: int, segment: bytes) -> bytes:
    body = segment[4:]
    if marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14:
        return b"\xff\xe0\x00\x10" + body[:12] + b"\0\0"  # without its thumbnail
    if marker == 0xE2 and body.startswith(b"ICC_PROFILE\0"):
        return segment
    if marker == 0xEE and body.startswith(b"Adobe"):
        return segment
    return b"" if 0xE0 <= marker <= 0xEF or marker >= 0xF0 else segment


def clean_png(data: bytes) -> bytes:
    """Keeps the critical chunks, transparency and colour (PNG specification, third edition, section 11)."""
    if data[:8] != _PNG_SIGNATURE:
        raise ValueError("it does not begin with a PNG signature")
    kept, position = [_PNG_SIGNATURE], 8
    while True:
        if position + 12 > len(data):
            raise ValueError("the PNG has no end chunk")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise ValueError("a PNG chunk reaches beyond the file")
        if kind in _PNG_KEPT:
            kept.append(data[position:end])
        if kind == b"IEND":
            return b"".join(kept)
        position = end


def clean_webp(data: bytes) -> bytes:
    """Keeps the picture, its alpha and the ICC profile of a still WebP (RFC 9649), and clears the metadata flags."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise ValueError("it does not begin with a WebP header")
    stop = 8 + int.from_bytes(data[4:8], "little")
    if stop > len(data):
        raise ValueError("the WebP is shorter than it says")
    kept, position, pictures = [], 12, 0
    while position + 8 <= stop:
        kind, length = struct.unpack_from("<4sI", data, position)
        end = position + 8 + length
        if end > stop:
            raise ValueError("a WebP chunk reaches beyond the file")
        chunk = data[position:end] + b"\0" * (length % 2)
        if kind == b"VP8X":
            if length < 10:
                raise ValueError("the WebP header chunk is too short")
            kept.append(chunk[:8] + bytes([chunk[8] & ~_WEBP_METADATA_FLAGS]) + chunk[9:])
        elif kind in _WEBP_KEPT:
            kept.append(chunk)
            pictures += kind in (b"VP8 ", b"VP8L")
        position = end + length % 2
    if pictures != 1:
        raise ValueError(f"the WebP holds {pictures} pictures")
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body


CLEANERS = {"JPEG": clean_jpeg, "MPO": clean_jpeg, "PNG": clean_png, "WEBP": clean_webp}
