"""The benchmarks by name: what each asks, from which files of the user's folder, and how its answers are counted.

All lie below one folder, each file at the path that `list_files` names, however its owners hand it out.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import TYPE_CHECKING

from rlhfv.errors import InvalidData, NotFound
from rlhfv.evaluation import amber, chair, object_halbench, over_generalisation, pope
from rlhfv.evaluation.files import ListedFile, WantedFile, list_files, require_files, sha256_of
from rlhfv.evaluation.score import Item, Measure, Score

if TYPE_CHECKING:  # what asks judges loads the Hub's client, which not every command needs
    from rlhfv.evaluation.judge import Asked, Judge


@dataclass(frozen=True)
class Resources:
    """What some variants need beside answers and keys: a judge, and a file of word vectors."""

    judge: "Judge | None" = None
    vectors: Path | None = None


@dataclass(frozen=True)
class Benchmark:
    """A benchmark. Its functions get the folder `place` below the user's. `wanted` names files in `place`, `questions`
    those that what is asked depends on; the first of `variants` is taken where none is named, `judged` ones need a
    judge and those `by_vectors` word vectors. `to_judge` says what a judge is asked about answers, in the words of a
    file where one is given. `measures` are its figures where they do not depend on the answers: then a score is kept
    on the disk.
    """

    name: str
    title: str
    place: str
    wanted: tuple[WantedFile, ...]
    questions: tuple[str, ...]
    variants: tuple[str, ...]
    read: Callable[[Path], list[Item]]
    count: Callable[[Path, Mapping[str, str], str, Resources], Score]
    judged: frozenset[str] = frozenset()
    to_judge: "Callable[[Path, Mapping[str, str], Path | None], Asked] | None" = None
    by_vectors: frozenset[str] = frozenset()
    measures: tuple[Measure, ...] = ()
    forms: tuple[str, ...] = ("llava",)

    def folder(self, root: Path) -> Path:
        return Path(root, self.place)

    def files(self, root: Path) -> list[ListedFile]:
        """Every file it wants by its path below `root`, and whether it is there."""
        named = [replace(file, path=_below(self.place, file.path)) for file in self.wanted]
        return list_files(root, named)

    def read_items(self, root: Path) -> list[Item]:
        """Its questions; the image of each is a path below `root`.

        Raises:
            InvalidData: a file is missing or is not what it should be, there is no question, or an image lies outside
                the folder.
        """
        require_files(root, [file.wanted for file in self.files(root)])
        items = [replace(item, image=_image(self.place, item)) for item in self.read(self.folder(root))]
        if not items:
            raise InvalidData(
                f"{self.title} has no questions.",
                f"None came out of {', '.join(str(self.folder(root) / path) for path in self.questions)}.",
                "Fetch the benchmark's files again; `benchmark list` says from where.",
            )
        return items

    def require_keys(self, root: Path, items: Sequence[Item]) -> None:
        """Raises `InvalidData` where its keys cannot be read, or know none of the items."""
        empty = dict.fromkeys((item.id for item in items), "")
        if self.variant() in self.judged:
            known = self.to_judge(self.folder(root), empty, None).cases
        else:
            known = self.score(root, empty).ids
        if not known:
            raise InvalidData(
                f"The keys know none of the {len(items):,} questions of {self.title}.",
                "No answer could be counted.",
                "Fetch the benchmark's files again; `benchmark list` says from where.",
            )

    def digest(self, root: Path) -> str:
        """The sha256 of the question files: of the file where it is one, else of their sums in order."""
        sums = [sha256_of(self.folder(root) / path) for path in self.questions if (self.folder(root) / path).is_file()]
        return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()

    def variant(self, name: str = "") -> str:
        """The variant of that name, the first for "". Raises `InvalidData` for one that it does not have."""
        if name and name not in self.variants:
            raise InvalidData(
                f"{self.title} has no variant {name!r}.",
                f"It is counted as {', '.join(self.variants)}, and figures of two variants are not the same thing.",
                "Choose one of them.",
            )
        return name or self.variants[0]

    def score(
        self,
        root: Path,
        answers: Mapping[str, str],
        variant: str = "",
        judge: "Judge | None" = None,
        vectors: Path | None = None,
    ) -> Score:
        """What is found in answers, by item id, when they are counted as `variant` says.

        Raises:
            InvalidData: a file is missing, or the variant is none or lacks the judge or the word vectors it needs.
            GenerationFailed: the judge cannot be asked.
        """
        variant = self.variant(variant)
        require_files(root, [file.wanted for file in self.files(root)])
        return self.count(self.folder(root), answers, variant, Resources(judge, vectors))

    def state(self, root: Path) -> str:
        """Changes when a file of the benchmark does: names, sizes and times."""
        seen = []
        for file in self.files(root):
            if file.there and not file.wanted.path.endswith("/"):
                facts = Path(root, file.wanted.path).stat()
                seen.append([file.wanted.path, facts.st_size, facts.st_mtime_ns])
        return json.dumps(seen)


def _below(place: str, path: str) -> str:
    whole = normpath(PurePosixPath(place, path).as_posix())
    return f"{whole}/" if path.endswith("/") else whole


def _image(place: str, item: Item) -> str:
    if not item.image:
        return ""
    path = _below(place, item.image)
    if path.startswith(("../", "/")):
        raise InvalidData(
            f"The picture of item {item.id!r:.60} is {item.image!r:.120}.",
            "That lies outside the benchmark folder.",
            "Mend the question file, or fetch it again.",
        )
    return path


def _amber_generative(folder: Path, answers: Mapping[str, str], variant: str, resources: Resources) -> Score:
    return amber.score_generative(amber.read_generative_keys(folder), answers, variant, resources.vectors)


def _amber_discriminative(folder: Path, answers: Mapping[str, str], variant: str, resources: Resources) -> Score:
    return amber.score_discriminative(amber.read_discriminative_keys(folder), answers, variant)


def _chair(folder: Path, answers: Mapping[str, str], variant: str, resources: Resources) -> Score:
    return chair.score_folder(folder, answers)


def _object_halbench(folder: Path, answers: Mapping[str, str], variant: str, resources: Resources) -> Score:
    if variant == object_halbench.LEXICAL:
        return object_halbench.score_folder(folder, answers, variant)
    from rlhfv.evaluation import judged_objects

    found = judged_objects.extract(object_halbench.read_items(folder), answers, resources.judge)
    score = object_halbench.score_folder(folder, answers, variant, found.objects, found.judge)
    return replace(score, notes=(*score.notes, *found.notes))


def _objects_to_judge(folder: Path, answers: Mapping[str, str], prompt_file: Path | None) -> "Asked":
    from rlhfv.evaluation import judged_objects

    return judged_objects.asked(object_halbench.read_items(folder), answers, prompt_file)


def _over_generalisation(folder: Path, answers: Mapping[str, str], variant: str, resources: Resources) -> Score:
    return over_generalisation.score_folder(folder, answers)


def _mmhal(folder: Path, answers: Mapping[str, str], variant: str, resources: Resources) -> Score:
    from rlhfv.evaluation import mmhal

    return mmhal.score(mmhal.read_keys(folder), answers, variant, resources.judge)


def _mmhal_to_judge(folder: Path, answers: Mapping[str, str], prompt_file: Path | None) -> "Asked":
    from rlhfv.evaluation import mmhal

    return mmhal.asked(mmhal.read_keys(folder), answers, prompt_file)


def _pope(split: str) -> Benchmark:
    wanted = pope.wanted(split)
    return Benchmark(
        name=f"pope-{split}",
        title=f"POPE, {split}",
        place="pope",
        wanted=wanted,
        questions=(wanted[0].path,),
        variants=("official", "lenient"),
        read=lambda folder: pope.read_items(folder, split),
        count=lambda folder, answers, variant, _: pope.score(pope.read_questions(folder, split), answers, variant),
        measures=pope.MEASURES,
        forms=("pope", "llava"),
    )


def _llava_bench(name: str, title: str, wanted: Sequence[WantedFile]) -> Benchmark:
    from rlhfv.evaluation import llava_bench

    def count(folder: Path, answers: Mapping[str, str], variant: str, resources: Resources) -> Score:
        return llava_bench.score(llava_bench.read_keys(folder), answers, variant, resources.judge)

    def to_judge(folder: Path, answers: Mapping[str, str], prompt_file: Path | None) -> "Asked":
        return llava_bench.asked(llava_bench.read_keys(folder), answers, prompt_file)

    return Benchmark(
        name=name,
        title=title,
        place=name,
        wanted=wanted,
        questions=(wanted[0].path,),
        variants=llava_bench.VARIANTS,
        read=llava_bench.read_items,
        count=count,
        judged=frozenset(llava_bench.VARIANTS),
        to_judge=to_judge,
        forms=("llava",),
    )


def _questions(wanted: Sequence[WantedFile]) -> tuple[str, ...]:
    """The question files among AMBER's."""
    return tuple(file.path for file in wanted if file.path.startswith("query/"))


@cache
def benchmarks() -> dict[str, Benchmark]:
    """All of them by name, in the order in which they are listed."""
    from rlhfv.evaluation import llava_bench, mmhal

    return {
        benchmark.name: benchmark
        for benchmark in (
            Benchmark(
                name="chair",
                title="CHAIR",
                place="",
                wanted=chair.WANTED,
                questions=("coco/annotations/captions_val2014.json", "coco/chair_images.txt"),
                variants=chair.VARIANTS,
                read=chair.read_items,
                count=_chair,
                measures=chair.MEASURES,
                forms=("caption", "llava"),
            ),
            Benchmark(
                name="object-halbench",
                title="Object HalBench",
                place="",
                wanted=object_halbench.WANTED,
                questions=(object_halbench.QUESTIONS.path,),
                variants=object_halbench.VARIANTS,
                read=object_halbench.read_items,
                count=_object_halbench,
                judged=frozenset({object_halbench.JUDGED}),
                to_judge=_objects_to_judge,
                measures=object_halbench.MEASURES,
                forms=("object-halbench", "llava"),
            ),
            Benchmark(
                name="amber-generative",
                title="AMBER, generative",
                place="amber",
                wanted=amber.GENERATIVE_WANTED,
                questions=_questions(amber.GENERATIVE_WANTED),
                variants=(amber.EXACT, amber.SIMILAR),
                read=amber.read_generative_items,
                count=_amber_generative,
                by_vectors=frozenset({amber.SIMILAR}),
                measures=amber.GENERATIVE_MEASURES,
                forms=("amber", "llava"),
            ),
            Benchmark(
                name="amber-discriminative",
                title="AMBER, discriminative",
                place="amber",
                wanted=amber.DISCRIMINATIVE_WANTED,
                questions=_questions(amber.DISCRIMINATIVE_WANTED),
                variants=("official", "lenient"),
                read=amber.read_discriminative_items,
                count=_amber_discriminative,
                measures=amber.DISCRIMINATIVE_MEASURES,
                forms=("amber", "llava"),
            ),
            *map(_pope, pope.SPLITS),
            Benchmark(
                name="mmhal",
                title="MMHal-Bench",
                place="mmhal",
                wanted=mmhal.WANTED,
                questions=(mmhal.FILE,),
                variants=mmhal.VARIANTS,
                read=mmhal.read_items,
                count=_mmhal,
                judged=frozenset(mmhal.VARIANTS),
                to_judge=_mmhal_to_judge,
                forms=("mmhal", "llava"),
            ),
            _llava_bench("llava-bench", "LLaVA-Bench (COCO)", llava_bench.WANTED),
            _llava_bench("llava-bench-wild", "LLaVA-Bench (in the wild)", llava_bench.WILD_WANTED),
            Benchmark(
                name="over-generalisation",
                title="Over-generalisation",
                place="",
                wanted=over_generalisation.WANTED,
                questions=("coco/annotations/captions_val2014.json", "coco/chair_images.txt"),
                variants=over_generalisation.VARIANTS,
                read=over_generalisation.read_items,
                count=_over_generalisation,
                forms=("caption", "llava"),
            ),
        )
    }


def find_benchmark(name: str) -> Benchmark:
    """Raises `NotFound` for a name that none has."""
    if name not in benchmarks():
        raise NotFound(
            f"There is no benchmark {name!r}.", f"There are {', '.join(benchmarks())}.", "Choose one of them."
        )
    return benchmarks()[name]
