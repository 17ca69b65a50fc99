"""Drawn scenes whose truth is known: what is in them, how many, and where."""

from __future__ import annotations

import math
import random
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from PIL import Image, ImageColor, ImageDraw, ImageFilter

from rlhfv.errors import InvalidData
from rlhfv.models.demo.objects import CLASS_NAMES, RULES

SIZE = 336  # pixels of a picture's side
CELL = SIZE // 3
TILE = 112  # pixels of a sprite's side in the sheet
SHEET_COLUMNS = 8
SHEET_PATH = Path(__file__).with_name("sprites.png")

# First seed and number of seeds of each split. Nothing else decides which scene belongs where, so no scene a figure
# is measured on can have been trained on. The 500 scenes of every figure are the first 500 of "test".
SPLITS: dict[str, tuple[int, int]] = {
    "base": (0, 1_000_000),
    "pairs": (1_000_000, 1_000_000),
    "validation": (2_000_000, 1_000_000),
    "test": (3_000_000, 1_000_000),
}

SCENE_TYPES: tuple[str, ...] = ("living room", "kitchen", "bathroom", "street")
TYPICAL: dict[str, tuple[str, ...]] = {
    "living room": (
        "couch",
        "chair",
        "television",
        "potted plant",
        "book",
        "clock",
        "vase",
        "cat",
        "dog",
        "laptop",
        "teddy bear",
        "person",
        "phone",
        "keyboard",
        "computer mouse",
        "cup",
    ),
    "kitchen": (
        "fork",
        "knife",
        "spoon",
        "bowl",
        "cup",
        "bottle",
        "wine glass",
        "apple",
        "banana",
        "orange",
        "carrot",
        "pizza",
        "cake",
        "donut",
        "sandwich",
        "chair",
    ),
    "bathroom": (
        "toilet",
        "bathtub",
        "mirror",
        "bar of soap",
        "toothbrush",
        "cup",
        "bottle",
        "potted plant",
        "vase",
        "cat",
        "person",
        "clock",
        "teddy bear",
    ),
    "street": (
        "person",
        "bicycle",
        "car",
        "motorcycle",
        "bus",
        "truck",
        "traffic light",
        "stop sign",
        "bird",
        "dog",
        "horse",
        "backpack",
        "umbrella",
        "handbag",
        "suitcase",
        "skateboard",
        "kite",
        "frisbee",
    ),
}
SIZES: dict[str, float] = {"small": 0.66, "medium": 0.78, "large": 0.9}  # of a cell's side
COUNT_SCALE = {1: 1.0, 2: 0.62, 3: 0.56}  # several share one cell
SEVERAL = frozenset(
    {"book", "bird", "apple", "banana", "orange", "carrot", "donut", "cup", "bottle", "wine glass", "spoon", "bowl"}
    | {
        "car",
        "person",
        "bicycle",
        "chair",
        "potted plant",
        "vase",
        "umbrella",
        "suitcase",
        "toothbrush",
        "kite",
        "cat",
    }
)  # what may stand two or three to a cell


@dataclass(frozen=True)
class PlacedObject:
    """One to three things of a kind in one cell of the layout.

    `cell` counts 0..8 from the top left in reading order, `size` is a key of SIZES, `shift` is in pixels.
    """

    name: str
    cell: int
    count: int
    size: str
    shift: tuple[int, int]


@dataclass(frozen=True)
class Scene:
    """The truth of one picture. `seed` counts from 0 within its split; `objects` stand in reading order."""

    split: str
    seed: int
    scene_type: str
    palette: int
    objects: tuple[PlacedObject, ...]

    def counts(self) -> dict[str, int]:
        """How many of each kind there are in the whole picture, in reading order of their first."""
        total: dict[str, int] = {}
        for placed in self.objects:
            total[placed.name] = total.get(placed.name, 0) + placed.count
        return total

    def cells(self, name: str) -> tuple[int, ...]:
        """The cells a kind of thing stands in."""
        return tuple(placed.cell for placed in self.objects if placed.name == name)

    def to_dict(self) -> dict:
        """The truth as plain JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict) -> Scene:
        """The reverse of `to_dict`; raises InvalidData when a field is missing or unknown."""
        try:
            objects = tuple(PlacedObject(**{**one, "shift": tuple(one["shift"])}) for one in data["objects"])
            return cls(**{**data, "objects": objects})
        except (KeyError, TypeError) as error:
            raise InvalidData(
                f"This is not a demo scene: {error}.",
                "A scene has the fields split, seed, scene_type, palette and objects.",
                "Write it with Scene.to_dict.",
            ) from error


def draw_scene(split: str, seed: int) -> Scene:
    """The scene of a split's seed: always the same one. Raises InvalidData outside the split's range."""
    if split not in SPLITS:
        raise InvalidData(
            f"There is no split {split!r}.", f"The splits are {', '.join(SPLITS)}.", "Choose one of them."
        )
    first, length = SPLITS[split]
    if not 0 <= seed < length:
        raise InvalidData(
            f"Seed {seed} is outside the split {split!r}.", f"It has seeds 0 to {length - 1}.", "Choose one of them."
        )
    dice = random.Random(first + seed)
    scene_type = dice.choice(SCENE_TYPES)
    typical = TYPICAL[scene_type]
    names: list[str] = []
    wanted = dice.choice((4, 5, 5, 6))
    while len(names) < wanted:
        chance = dice.random()
        if chance < 0.06 and names:
            name = dice.choice(names)  # the same kind in a second cell
            if names.count(name) > 1:
                continue
        else:
            name = dice.choice(typical if chance < 0.86 else CLASS_NAMES)
            if name in names:
                continue
        names.append(name)
        target = RULES.get(name)
        # Without this a rule's target would be there so rarely that "always named" were nearly right.
        if target and target not in names and len(names) < wanted and dice.random() < 0.4:
            names.append(target)
    dice.shuffle(names)
    cells = sorted(dice.sample(range(9), len(names)))
    objects = tuple(_place(dice, name, cell) for name, cell in zip(names, cells, strict=True))
    return Scene(split, seed, scene_type, dice.randrange(3), objects)


def _place(dice: random.Random, name: str, cell: int) -> PlacedObject:
    count = dice.choices((1, 2, 3), (0.72, 0.16, 0.12))[0] if name in SEVERAL else 1
    size = dice.choice(tuple(SIZES))
    return PlacedObject(name, cell, count, size, (dice.randint(-6, 6), dice.randint(-6, 6)))


def scene_source(scene: Scene) -> str:
    """The short name that leads back to a scene: "demo:test/17"."""
    return f"demo:{scene.split}/{scene.seed}"


def scene_from_source(source: str) -> Scene:
    """The scene of a short name; raises InvalidData for anything else."""
    kind, _, rest = source.partition(":")
    split, _, seed = rest.partition("/")
    if kind != "demo" or not (seed.isascii() and seed.isdigit() and len(seed) < 10):
        raise InvalidData(
            f"{source[:60]!r} names no demo scene.", "A source looks like demo:test/17.", "Take it from scene_source."
        )
    return draw_scene(split, int(seed))


# Wall, shelf or far side, and ground of each scene type, in three palettes.
PALETTES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "living room": (
        ("#f6ead7", "#d9b98c", "#c89b6d"),
        ("#e4edf2", "#c2a888", "#b08d68"),
        ("#efe3ea", "#d3b39a", "#b8906f"),
    ),
    "kitchen": (
        ("#eef4e4", "#cfd8bd", "#d9c7a8"),
        ("#fdf1dc", "#e2cfa4", "#cdb79a"),
        ("#e8f1f5", "#c7d6dd", "#d3c9bb"),
    ),
    "bathroom": (
        ("#dff1f4", "#c3dfe5", "#b5cdd6"),
        ("#e6f3ea", "#c9e2d2", "#b9cfc3"),
        ("#eceaf6", "#d3cfe8", "#bfbcd4"),
    ),
    "street": (
        ("#cfe8fb", "#dcd7cf", "#8b9097"),
        ("#fde4cf", "#d8d2c9", "#7f858d"),
        ("#d9e3ee", "#cfcac2", "#878b91"),
    ),
}


@cache
def _background(scene_type: str, palette: int) -> Image.Image:
    wall, trim, ground = PALETTES[scene_type][palette]
    picture = Image.new("RGB", (SIZE, SIZE), wall)
    draw = ImageDraw.Draw(picture)
    horizon = 2 * CELL + 30
    if scene_type == "street":
        _draw_street(draw, palette, trim, ground)
        return picture
    if scene_type == "living room":
        for x in range(0, SIZE, 28):
            draw.line((x, 0, x, horizon), fill=_blend(wall, trim, 0.22), width=3)
    else:
        step = 28 if scene_type == "bathroom" else 42
        for x in range(0, SIZE + 1, step):
            draw.line((x, 0, x, horizon), fill=_blend(wall, trim, 0.55), width=1)
        for y in range(0, horizon, step):
            draw.line((0, y, SIZE, y), fill=_blend(wall, trim, 0.55), width=1)
    for y in (CELL - 5, 2 * CELL - 5):  # two shelves carry the upper rows
        draw.rounded_rectangle((8, y, SIZE - 8, y + 7), 3, fill=trim)
        draw.line((10, y + 8, SIZE - 10, y + 8), fill=_blend(trim, "#000000", 0.15), width=1)
    draw.rectangle((0, horizon, SIZE, SIZE), fill=ground)
    draw.rectangle((0, horizon - 5, SIZE, horizon), fill=_blend(wall, "#ffffff", 0.6))
    for y in range(horizon + 18, SIZE, 22):
        draw.line((0, y, SIZE, y), fill=_blend(ground, "#000000", 0.08), width=1)
    if scene_type != "living room":
        for x in range(-SIZE, 2 * SIZE, 48):
            draw.line(
                (SIZE // 2 + (x - SIZE // 2) // 2, horizon, x, SIZE), fill=_blend(ground, "#000000", 0.08), width=1
            )
    return picture


def _draw_street(draw: ImageDraw.ImageDraw, palette: int, pavement: str, road: str) -> None:
    sky = PALETTES["street"][palette][0]
    left = 0
    for index, (width, height) in enumerate(((62, 120), (48, 84), (70, 142), (54, 100), (64, 128), (60, 92))):
        house = _blend(sky, ("#b98d7a", "#9aa7b5", "#c2a47c")[(index + palette) % 3], 0.45)
        top = 2 * CELL - 14 - height
        draw.rectangle((left, top, left + width - 3, 2 * CELL - 14), fill=house)
        for y in range(top + 10, 2 * CELL - 34, 22):
            for x in range(left + 9, left + width - 16, 17):
                draw.rectangle((x, y, x + 8, y + 11), fill=_blend(house, "#ffffff", 0.35))
        left += width
    draw.rectangle((0, 2 * CELL - 14, SIZE, 2 * CELL + 12), fill=pavement)
    draw.rectangle((0, 2 * CELL + 12, SIZE, SIZE), fill=road)
    draw.line((0, 2 * CELL + 13, SIZE, 2 * CELL + 13), fill=_blend(pavement, "#000000", 0.25), width=3)
    for x in range(-10, SIZE, 56):
        draw.rectangle((x, SIZE - 50, x + 30, SIZE - 45), fill=_blend(road, "#ffffff", 0.6))


def _blend(one: str | tuple[int, ...], other: str, share: float) -> tuple[int, ...]:
    first, second = ImageColor.getrgb(one) if isinstance(one, str) else one, ImageColor.getrgb(other)
    return tuple(round(a + (b - a) * share) for a, b in zip(first, second, strict=True))


@cache
def _sheet() -> Image.Image:
    return Image.open(SHEET_PATH).convert("RGBA")


@cache
def _sprite(name: str, side: int) -> tuple[Image.Image, Image.Image]:
    """The sprite at a side length and its soft shadow (an "L" mask with a margin of 6 pixels)."""
    row, column = divmod(CLASS_NAMES.index(name), SHEET_COLUMNS)
    tile = _sheet().crop((column * TILE, row * TILE, (column + 1) * TILE, (row + 1) * TILE))
    # Premultiplied alpha: otherwise the colour behind transparent pixels bleeds into the edges.
    sprite = tile.convert("RGBa").resize((side, side), Image.Resampling.LANCZOS).convert("RGBA")
    shadow = Image.new("L", (side + 12, side + 12), 0)
    shadow.paste(sprite.getchannel("A").point(lambda value: value * 70 // 255), (6, 6))
    return sprite, shadow.filter(ImageFilter.GaussianBlur(3))


def _corners(placed: PlacedObject) -> list[tuple[int, int, int]]:
    """Left, top and side of each sprite of a cell."""
    row, column = divmod(placed.cell, 3)
    side = int(CELL * SIZES[placed.size] * COUNT_SCALE[placed.count])
    middles = {
        1: ((0.5, 0.5),),
        2: ((0.29, 0.5), (0.71, 0.5)),
        3: ((0.27, 0.31), (0.73, 0.31), (0.5, 0.72)),
    }[placed.count]
    room = (CELL - side) // 2 if placed.count == 1 else 3
    shift = [max(-room, min(room, value)) for value in placed.shift]
    corners = []
    for x, y in middles:
        left = math.floor((column + x) * CELL - side / 2) + shift[0]
        top = math.floor((row + y) * CELL - side / 2) + shift[1]
        corners.append((max(0, min(SIZE - side, left)), max(0, min(SIZE - side, top)), side))
    return corners


def render(scene: Scene) -> Image.Image:
    """The scene as an RGB picture of 336×336 pixels."""
    picture = _background(scene.scene_type, scene.palette).copy()
    for placed in scene.objects:
        for left, top, side in _corners(placed):
            sprite, shadow = _sprite(placed.name, side)
            picture.paste((30, 30, 40), (left - 4, top - 2), shadow)
            picture.paste(sprite, (left, top), sprite)
    return picture
