"""The form of a training run, made from the fields of `TrainingConfig` so that help and bounds have one source."""

from dataclasses import dataclass

import gradio as gr

from rlhfv.ddpo.config import RECIPES, TrainingConfig, describe_fields

MAIN = ("epochs", "learning_rate", "batch_size", "gamma", "beta", "eval_fraction")
HIDDEN = ("recipe", "source")
LABELS = {
    "gamma": "γ (weight of corrected words)",
    "beta": "β (how close to the old model)",
    "eval_fraction": "Share held out",
    "lora_alpha": "LoRA α",
    "lora_rank": "LoRA rank",
    "lora_dropout": "LoRA dropout",
    "lora_targets": "LoRA layers",
}


@dataclass(frozen=True)
class SettingsForm:
    """`inputs` are the recipe and one component a field, in the order of `names`."""

    recipe: gr.Dropdown
    names: tuple[str, ...]
    inputs: tuple

    def read(self, recipe: str, *values) -> TrainingConfig:
        """The settings in the form. Raises `InvalidData` for what cannot work."""
        given = {name: value for name, value in zip(self.names, values, strict=True) if value is not None}
        return TrainingConfig.from_dict(
            {**TrainingConfig.from_dict({"recipe": recipe}).to_dict(), "steps": None, **given}
        )

    def fill(self, config: TrainingConfig) -> dict:
        values = config.to_dict()
        return {
            self.recipe: config.recipe,
            **{part: values[name] for name, part in zip(self.names, self.inputs[1:], strict=True)},
        }


def build_form() -> SettingsForm:
    fields = {field["name"]: field for field in describe_fields() if field["name"] not in HIDDEN}
    first = next(iter(RECIPES.values())).to_dict()
    recipe = gr.Dropdown(list(RECIPES), value=next(iter(RECIPES)), label="Recipe", elem_id="recipe", filterable=False)
    parts = {}
    with gr.Row(elem_classes="form-grid"):
        for name in MAIN:
            parts[name] = _component(fields[name], first[name])
    with gr.Accordion("All other settings", open=False, elem_id="all-settings"), gr.Row(elem_classes="form-grid"):
        for name in fields:
            if name not in MAIN:
                parts[name] = _component(fields[name], first[name])
    names = tuple(parts)
    return SettingsForm(recipe, names, (recipe, *(parts[name] for name in names)))


def _component(field: dict, value):
    name = field["name"]
    shared = {
        "label": LABELS.get(name, name.replace("_", " ").capitalize()),
        "info": field["help"],
        "elem_id": f"setting-{name.replace('_', '-')}",
        "min_width": 150,
    }
    if field["choices"]:
        return gr.Dropdown(list(field["choices"]), value=value, filterable=False, **shared)
    if field["type"] == "bool":
        return gr.Checkbox(value, **shared)
    # Bounds are checked by TrainingConfig, whose message says why; a number field would silently clip.
    return gr.Number(
        value, precision=0 if field["type"] == "int" else None, step="any" if field["type"] == "float" else 1, **shared
    )
