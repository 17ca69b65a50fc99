"""What lies beside trained weights: `rlhfv.json` for programs, `README.md` for people. Neither names a machine."""

import hashlib
import json
from pathlib import Path

from rlhfv.ddpo.config import TrainingConfig
from rlhfv.models.identity import ADAPTER_CARD

SHOWN_IDS = 20


def hash_rows(rows: list[dict]) -> str:
    """sha256 of pairs as canonical JSON, in the order of their ids."""
    ordered = sorted(rows, key=lambda row: row["id"])
    text = json.dumps(ordered, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write_card(
    folder: Path, run: str, base: dict, config: TrainingConfig, trained: list[dict], held_out: int, figures: dict
) -> None:
    """Write both files into the folder of an adapter or a model.

    Args:
        base: {"name", "revision"}.
        trained: the rows that were trained on.
        figures: name to number.
    """
    annotators: dict[str, int] = {}
    for row in trained:
        name = (row.get("provenance") or {}).get("annotator") or "unnamed"
        annotators[name] = annotators.get(name, 0) + 1
    card = {
        "v": 1,
        "base": {"name": base["name"], "revision": base["revision"]},
        "recipe": config.recipe,
        "training": config.to_dict(),
        "run": run,
        "pairs": {
            "count": len(trained),
            "held_out": held_out,
            "sha256": hash_rows(trained),
            "annotators": annotators,
            "ids": sorted(row["id"] for row in trained),
        },
        "figures": figures,
    }
    Path(folder, ADAPTER_CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    Path(folder, "README.md").write_text(_readme(card, config), encoding="utf-8")


def _readme(card: dict, config: TrainingConfig) -> str:
    pairs, base = card["pairs"], card["base"]
    ids = [f"`{name}`" for name in pairs["ids"][:SHOWN_IDS]]
    more = (
        f" and {len(pairs['ids']) - SHOWN_IDS} more, all in `{ADAPTER_CARD}`" if len(pairs["ids"]) > SHOWN_IDS else ""
    )
    kind = "All weights" if config.full_tuning else f"A LoRA adapter (rank {config.lora_rank})"
    hub = "/" in base["name"]
    header = [f"base_model: {base['name']}"] if hub else []
    tags = ["rlhf-v", "ddpo", "preference"] + ([] if config.full_tuning else ["peft", "lora"])
    settings = "\n".join(
        f"| {name} | {value} |" for name, value in config.to_dict().items() if name not in ("recipe", "source")
    )
    figures = "\n".join(
        f"| {name} | {_shown(name, value)} |"
        for name, value in card["figures"].items()
        if isinstance(value, (int, float))
    )
    annotators = ", ".join(f"{name} ({count})" for name, count in sorted(pairs["annotators"].items()))
    return f"""---
{chr(10).join([*header, "library_name: " + ("transformers" if config.full_tuning else "peft"), "tags:"])}
{chr(10).join("- " + tag for tag in tags)}
---

# {card["run"]}

{kind}, trained by dense direct preference optimisation (RLHF-V) on corrected answers.

- **Base**: {base["name"]} @ `{base["revision"]}`. On any other base these weights mean something else.
- **Recipe**: {config.recipe}. {config.source}
- **Pairs**: {pairs["count"]} trained on, {pairs["held_out"]} held out; sha256 `{pairs["sha256"]}`; corrected by
{annotators}.
  Ids: {", ".join(ids)}{more}.

| Figure | at the end |
|---|---|
{figures}

Falling loss says that the model learnt the pairs, not that it hallucinates less: measure that on other images, with
recall and length beside it.

| Setting | |
|---|---|
{settings}
"""


def _shown(name: str, value: float) -> str:
    return f"{value / 1e9:.2f} GB" if name.endswith("memory") else f"{value:.4g}"
