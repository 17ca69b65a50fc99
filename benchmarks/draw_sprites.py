"""Draw the demo model's sprite sheet from the Noto Color Emoji font: `python benchmarks/draw_sprites.py`.

Needed only when a class is added. The sheet is committed, so neither the studio nor the build needs the font.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from rlhfv.models.demo.objects import CLASSES
from rlhfv.models.demo.scenes import SHEET_COLUMNS, SHEET_PATH, TILE

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
BITMAP_SIZE = 109  # the only size at which this font holds its bitmaps


def draw_sprite(emoji: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """The emoji as an RGBA tile of TILE×TILE pixels, scaled to touch two sides."""
    canvas = Image.new("RGBA", (200, 200), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((30, 30), emoji, font=font, embedded_color=True)
    sprite = canvas.crop(canvas.getbbox())
    if emoji == "🍴":  # drawn as fork and knife side by side: only the fork is wanted
        sprite = sprite.crop((0, 0, sprite.width // 2, sprite.height))
        sprite = sprite.crop(sprite.getbbox())
    if emoji == "🛑":  # a bare octagon: the word makes it a sign
        draw = ImageDraw.Draw(sprite)
        words = ImageFont.load_default(size=36)
        draw.text((sprite.width / 2, sprite.height / 2), "STOP", fill="white", font=words, anchor="mm", stroke_width=1)
    scale = TILE / max(sprite.size)
    sprite = sprite.resize((round(sprite.width * scale), round(sprite.height * scale)), Image.Resampling.LANCZOS)
    tile = Image.new("RGBA", (TILE, TILE), (0, 0, 0, 0))
    tile.paste(sprite, ((TILE - sprite.width) // 2, (TILE - sprite.height) // 2))
    return tile


def draw_sheet(font_path: str) -> Image.Image:
    """All classes in their order, SHEET_COLUMNS tiles a row."""
    font = ImageFont.truetype(font_path, BITMAP_SIZE)
    rows = -(-len(CLASSES) // SHEET_COLUMNS)
    sheet = Image.new("RGBA", (SHEET_COLUMNS * TILE, rows * TILE), (0, 0, 0, 0))
    for index, one in enumerate(CLASSES):
        row, column = divmod(index, SHEET_COLUMNS)
        sheet.paste(draw_sprite(one.emoji, font), (column * TILE, row * TILE))
    return sheet


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--font", default=FONT)
    parser.add_argument("--output", type=Path, default=SHEET_PATH)
    options = parser.parse_args()
    draw_sheet(options.font).save(options.output, optimize=True)
