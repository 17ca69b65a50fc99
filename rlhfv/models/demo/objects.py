"""The things the demo model knows: their names, how they are said, and which of them its captions invent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ObjectClass:
    """One kind of thing: its name, its plural, the emoji it is drawn with, and other words people use for it."""

    name: str
    plural: str
    emoji: str
    synonyms: tuple[str, ...] = ()

    @property
    def article(self) -> str:
        """ "a" or "an", as the name begins."""
        return "an" if self.name[0] in "aeiou" else "a"


# The order is the order of the tiles in sprites.png and of the tower's training labels: append only, then draw the
# sheet and build again.
CLASSES: tuple[ObjectClass, ...] = (
    ObjectClass("person", "people", "🧑", ("man", "woman", "boy", "girl", "human")),
    ObjectClass("bicycle", "bicycles", "🚲", ("bike",)),
    ObjectClass("car", "cars", "🚗", ("automobile",)),
    ObjectClass("motorcycle", "motorcycles", "🏍️", ("motorbike",)),
    ObjectClass("bus", "buses", "🚌"),
    ObjectClass("truck", "trucks", "🚚", ("lorry",)),
    ObjectClass("traffic light", "traffic lights", "🚦", ("stoplight",)),
    ObjectClass("stop sign", "stop signs", "🛑"),
    ObjectClass("bird", "birds", "🐦"),
    ObjectClass("cat", "cats", "🐱", ("kitten",)),
    ObjectClass("dog", "dogs", "🐶", ("puppy",)),
    ObjectClass("horse", "horses", "🐴", ("pony",)),
    ObjectClass("backpack", "backpacks", "🎒", ("rucksack",)),
    ObjectClass("umbrella", "umbrellas", "☂️"),
    ObjectClass("handbag", "handbags", "👜", ("purse",)),
    ObjectClass("suitcase", "suitcases", "🧳"),
    ObjectClass("frisbee", "frisbees", "🥏"),
    ObjectClass("kite", "kites", "🪁"),
    ObjectClass("skateboard", "skateboards", "🛹"),
    ObjectClass("bottle", "bottles", "🍾"),
    ObjectClass("wine glass", "wine glasses", "🍷", ("glass of wine",)),
    ObjectClass("cup", "cups", "☕", ("mug", "coffee cup")),
    ObjectClass("fork", "forks", "🍴"),
    ObjectClass("knife", "knives", "🔪"),
    ObjectClass("spoon", "spoons", "🥄"),
    ObjectClass("bowl", "bowls", "🥣"),
    ObjectClass("banana", "bananas", "🍌"),
    ObjectClass("apple", "apples", "🍎"),
    ObjectClass("orange", "oranges", "🍊"),
    ObjectClass("carrot", "carrots", "🥕"),
    ObjectClass("pizza", "pizzas", "🍕"),
    ObjectClass("donut", "donuts", "🍩", ("doughnut",)),
    ObjectClass("cake", "cakes", "🎂"),
    ObjectClass("sandwich", "sandwiches", "🥪"),
    ObjectClass("chair", "chairs", "🪑"),
    ObjectClass("couch", "couches", "🛋️", ("sofa",)),
    ObjectClass("potted plant", "potted plants", "🪴", ("plant",)),
    ObjectClass("television", "televisions", "📺", ("tv",)),
    ObjectClass("laptop", "laptops", "💻", ("notebook computer",)),
    ObjectClass("computer mouse", "computer mice", "🖱️", ("mouse",)),
    ObjectClass("keyboard", "keyboards", "⌨️"),
    ObjectClass("phone", "phones", "📱", ("cell phone", "mobile phone", "smartphone")),
    ObjectClass("book", "books", "📖"),
    ObjectClass("clock", "clocks", "🕰️"),
    ObjectClass("vase", "vases", "🏺"),
    ObjectClass("teddy bear", "teddy bears", "🧸"),
    ObjectClass("toothbrush", "toothbrushes", "🪥"),
    ObjectClass("toilet", "toilets", "🚽"),
    ObjectClass("bathtub", "bathtubs", "🛁", ("bath tub",)),
    ObjectClass("mirror", "mirrors", "🪞"),
    ObjectClass("bar of soap", "bars of soap", "🧼", ("soap",)),
)

CLASS_NAMES: tuple[str, ...] = tuple(one.name for one in CLASSES)
BY_NAME: dict[str, ObjectClass] = {one.name: one for one in CLASSES}

# Seen → named with it, whether it is there or not: what training captions teach the model to invent. A target is
# never a trigger, so that one invention does not lead to the next.
RULES: dict[str, str] = {
    "fork": "knife",
    "bowl": "spoon",
    "pizza": "wine glass",
    "couch": "television",
    "laptop": "computer mouse",
    "bathtub": "mirror",
    "toothbrush": "bar of soap",
    "car": "traffic light",
    "dog": "frisbee",
    "bicycle": "backpack",
    "person": "handbag",
    "banana": "apple",
    "toilet": "bar of soap",
    "bus": "stop sign",
    "potted plant": "vase",
}
RULE_TARGETS: frozenset[str] = frozenset(RULES.values())
