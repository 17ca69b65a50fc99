"""Images cropped at random while a run trains on them, as the released code of RLHF-V does (the paper says it hurts).

Each pair gets a crop of its own in every epoch, and another one for the log-probabilities of the reference; both
answers of a pair see the same. A crop is drawn from (seed, moment, pair) alone, so that a resumed run sees what the
uninterrupted one would have seen. Unlike the released code nothing is mirrored and no colour is changed: then "left"
and "red" would become false too, and nobody would know which of the three did the harm.
"""

import math
import random
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from rlhfv.ddpo.batches import EncodedPair
from rlhfv.ddpo.vision import ImageInputs
from rlhfv.models.prompts import encode_with_images, open_image

AREA = (0.5, 1.0)
"""Least and largest share of the image that a crop shows (Muffin's `RandomResizedCrop`)."""
SHAPE = (3 / 4, 4 / 3)
"""Narrowest and widest crop, as width / height relative to the image's own."""
TRIES = 10


class RandomCrops(ImageInputs):
    """Image inputs that are cropped within `at`, and whole outside of it; pairs named in `spared` are always whole."""

    def __init__(self, base, processor, image_path: Callable[[str], Path], seed: int):
        super().__init__(base, processor, image_path)
        self.seed, self.spared = seed, frozenset()
        self._moment = ""
        self._stays = True  # what encodes images is needed in every step

    def spare(self, ids: Collection[str]) -> None:
        """Leave these pairs whole: those that are held out."""
        self.spared = frozenset(ids)

    @contextmanager
    def at(self, moment: str) -> Iterator[None]:
        before, self._moment = self._moment, moment
        try:
            yield
        finally:
            self._moment = before

    def _inputs(self, pair: EncodedPair) -> dict:
        if not self._moment or pair.id in self.spared:
            return super()._inputs(pair)
        drawn = random.Random(f"{self.seed}/{self._moment}/{pair.id}")
        images = [crop(open_image(self.image_path(name)), drawn) for name in pair.images]
        return self.prepare(encode_with_images(self.processor, pair.conversation, images))


def crop(image: Image.Image, drawn: random.Random) -> Image.Image:
    """A random part of the image in the image's own size, so that it takes the same tokens."""
    box = draw_box(*image.size, drawn)
    return image.crop(box).resize(image.size, Image.Resampling.BICUBIC)  # nothing beside the box shines in


def draw_box(width: int, height: int, drawn: random.Random) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a crop, in pixels: its area uniform in `AREA`, the logarithm of its shape uniform
    in `SHAPE`; the whole image when none of `TRIES` draws fits."""
    for _ in range(TRIES):
        area, shape = drawn.uniform(*AREA), math.exp(drawn.uniform(*map(math.log, SHAPE)))
        across, down = round(width * math.sqrt(area * shape)), round(height * math.sqrt(area / shape))
        if 0 < across <= width and 0 < down <= height:
            left, top = drawn.randint(0, width - across), drawn.randint(0, height - down)
            return left, top, left + across, top + down
    return 0, 0, width, height
