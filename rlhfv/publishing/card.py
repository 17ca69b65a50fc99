"""The card of the data set: for programs its header, for people what is in it, from whom, and how to load it.

What the studio writes stands between two marks; whatever the owner writes around them, and whatever header fields they
add, stay. Without the marks the text is the owner's, and only the header is kept up to date.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from datasets import DatasetInfo, Features
from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCard, DatasetCardData
from yaml import YAMLError

from rlhfv.corrections.edits import KINDS

BEGIN = "<!-- Written by the RLHF-V correction studio: changes between these marks are replaced. -->"
END = "<!-- End of what the studio writes. -->"

_CONFIGS = [
    {"config_name": "default", "default": True, "data_files": [{"split": "train", "path": "data/train-*.parquet"}]},
    {"config_name": "judgements", "data_files": [{"split": "train", "path": "judgements/train-*.parquet"}]},
]
_TAGS = ["rlhf-v", "preference", "dpo", "hallucination", "trl"]
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LICENCES = ("cc-by-4.0", "cc-by-nc-4.0", "cc-by-sa-4.0", "cc0-1.0", "apache-2.0", "mit")
_BAR = 30
_SHOWN = 20
_COLUMNS = (
    ("id, revision, updated_at", "the pair; an edit keeps the id and raises the revision"),
    ("images, image_sha256, image_turns", "the pictures, the sha256 of each, and the question (from 0) it came with"),
    ("prompt, chosen, rejected", "messages with plain text; `rejected` is the model's own answer"),
    ("segments", "each corrected span on both sides: offsets in code points, the text they cover; `tag` is its kind"),
    ("provenance", "model and its commit, sampling, annotator, licence, consent, whether edits were made or inferred"),
    ("ds_name, origin_dataset, origin_split, idx, image_path", "as RLHF-V-Dataset has them"),
)


@dataclass
class Figures:
    """What the card counts."""

    pairs: int = 0
    judgements: int = 0
    words: int = 0
    outcomes: Counter = field(default_factory=Counter)
    kinds: Counter = field(default_factory=Counter)
    licences: Counter = field(default_factory=Counter)
    annotators: Counter = field(default_factory=Counter)
    models: Counter = field(default_factory=Counter)
    pictures: set = field(default_factory=set)


def count_rows(rows: Iterable[tuple[str, dict]], judgements: int) -> Figures:
    """Counts published pairs, each given as the annotator's published name and its row (`PreferencePair.to_row`)."""
    figures = Figures(judgements=judgements)
    for shown, row in rows:
        figures.pairs += 1
        figures.words += len(row["rejected"].split())
        figures.outcomes[row["outcome"]] += 1
        figures.kinds.update(edit["kind"] for edit in row["edits"])
        figures.licences[row["provenance"]["licence"]] += 1
        figures.annotators[shown or "not named"] += 1
        figures.models[row["provenance"]["model"]["name"]] += 1
        for turn in [*row["history"], row]:
            figures.pictures.update(turn["images"])
    return figures


def write_card(repo: str, figures: Figures, present: str, features: dict[str, Features]) -> str:
    """The card's new text; the same figures over the same present text give the same bytes.

    Args:
        present: the card as it is on the Hub, empty when there is none.
        features: the columns of the parts.
    """
    data, text = _read(present)
    own = f"{BEGIN}\n\n{_text(repo, figures)}\n{END}"
    if not text.strip():
        text = own
    elif BEGIN in text and END in text:
        before, _, rest = text.partition(BEGIN)
        text = before + own + rest.partition(END)[2]
    data.configs = _CONFIGS
    data.license = _licence(figures)
    data.size_categories = [next((name for size, name in _SIZES if figures.pairs < size), "1M<n<10M")]
    data.tags = list(dict.fromkeys([*(data.get("tags") or []), *_TAGS]))
    data.task_categories = data.get("task_categories") or ["image-text-to-text"]
    _declare(data, features)
    return f"---\n{data.to_yaml()}\n---\n\n{text}\n"


def _read(present: str) -> tuple[DatasetCardData, str]:
    """Header and text of a card. A header that nobody can read is as good as none."""
    if not present:
        return DatasetCardData(), ""
    try:
        card = DatasetCard(present, ignore_metadata_errors=True)
        return card.data, card.text.strip("\n")
    except (YAMLError, TypeError, ValueError):
        return DatasetCardData(), present.partition("\n---")[2].strip("\n")


def _declare(data: DatasetCardData, features: dict[str, Features]) -> None:
    """All columns in the header, as they are now: without them the oldest shard would decide for the others."""
    data.pop("dataset_info", None)
    infos = {"default": "pairs", "judgements": "judgements"}
    infos = {config: DatasetInfo(features=features[part]) for config, part in infos.items()}
    DatasetInfosDict(infos).to_dataset_card_data(data)


def _licence(figures: Figures) -> str | list[str]:
    names = sorted({name.lower() if name.lower() in _LICENCES else "other" for name in figures.licences})
    return names if len(names) > 1 else names[0] if names else "other"


def _text(repo: str, figures: Figures) -> str:
    edits = figures.kinds.total()
    corrected, preferred = figures.outcomes["corrected"], figures.outcomes["preferred"]
    per_answer = f" ({edits / corrected:.2f} an answer)" if corrected else ""
    mean = f"{figures.words / figures.pairs:.1f}" if figures.pairs else "–"
    licences = "".join(f"| {name} | {count:,} |\n" for name, count in _ranked(figures.licences))
    names = [f"{name} ({count:,})" for name, count in _ranked(figures.annotators)]
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    models = "".join(f"| {name} | {count:,} |\n" for name, count in _ranked(figures.models)[:_SHOWN])
    columns = "".join(f"| `{names.replace(', ', '`, `')}` | {what} |\n" for names, what in _COLUMNS)
    return f"""# {repo.partition("/")[2]}

What multimodal models said about pictures, what is true instead, and exactly which words a person changed in between.

| | |
|---|---|
| Preference pairs | {figures.pairs:,} |
| Pictures | {len(figures.pictures):,} |
| Corrected answers | {corrected:,} |
| Corrections | {edits:,}{per_answer} |
| Answers preferred to another | {preferred:,} |
| Words a rejected answer has | {mean} |
| Judgements without a correction | {figures.judgements:,} |

The judgements (nothing wrong, a tie, both bad, skipped) are a configuration of their own.

## Kinds of corrections

{_chart(figures.kinds)}

## Licence and consent

Whoever made a pair agreed to its publication under the licence in its `provenance`. Pictures keep the terms of where \
they come from (`provenance.source`).

| Licence | Pairs |
|---|---|
{licences}
## Annotators

By a stable pseudonym, unless they agreed to be named: {", ".join(names[:_SHOWN]) or "nobody yet"}{more}.

## Models that were corrected

| Model | Pairs |
|---|---|
{models}
## Columns

| Column | Meaning |
|---|---|
{columns}
## How to load it

**datasets and TRL**: the rows are what TRL's preference trainers take.

```python
from datasets import load_dataset

pairs = load_dataset("{repo}", split="train")
judgements = load_dataset("{repo}", "judgements", split="train")
```

**LLaMA-Factory**: export once, then name the folder as `dataset_dir`; its `dataset_info.json` is in there.

```sh
python -m rlhfv publish pull {repo}
python -m rlhfv pairs export --format llama-factory my-pairs/
```

**RLHF-V's own code**: the same with its format.

```sh
python -m rlhfv publish pull {repo}
python -m rlhfv pairs export --format rlhf-v my-pairs/
```
"""


def _chart(kinds: Counter) -> str:
    """Bars of text, which every viewer shows."""
    most = max(kinds.values(), default=0)
    lines = [
        f"{kind:<10}{kinds[kind]:>9,}  {'█' * round(_BAR * kinds[kind] / most) if most else ''}".rstrip()
        for kind in KINDS
    ]
    return "\n".join(["```text", *lines, "```"])


def _ranked(counts: Counter) -> list[tuple[str, int]]:
    """Most frequent first; names cannot break the table they stand in."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(_plain(name), count) for name, count in ranked]


def _plain(name: str) -> str:
    """A name that somebody typed, as text that Markdown and HTML leave alone."""
    marks = {mark: f"&#{ord(mark)};" for mark in "\\`*_[]<>|!&#~"}
    return "".join(marks.get(mark, mark) for mark in " ".join(name.split())[:200]) or "not named"
