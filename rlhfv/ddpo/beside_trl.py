"""The same pairs with TRL's DPOTrainer, for comparison: `python -m rlhfv.ddpo.beside_trl RUN_FOLDER` where TRL is
installed. It trains as TRL does by itself, with the run's LoRA, batch and precision, and prints one line of JSON.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from accelerate import PartialState
from PIL import Image
from transformers import TrainerCallback

from rlhfv.corrections.pairs import PreferencePair
from rlhfv.ddpo.base import find_base, language_targets, load_base
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.ddpo.trainer import used_memory
from rlhfv.run_folder import RunFolder


class _Clock(TrainerCallback):
    """Seconds of each optimizer step."""

    def __init__(self):
        self.seconds: list[float] = []

    def on_step_begin(self, args, state, control, **rest):
        self.began = time.monotonic()

    def on_step_end(self, args, state, control, **rest):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.monotonic() - self.began)


def trl_rows(pairs: Iterable[PreferencePair], find_image: Callable[[str], Path]) -> list[dict]:
    """The pairs as `DPOTrainer` takes them. It takes no history of text and pictures here: pairs with one are left
    out."""

    def said(role: str, text: str) -> list[dict]:
        return [{"role": role, "content": text}]

    return [
        {
            "images": [Image.open(find_image(name)).convert("RGB") for name in pair.prompt.images],
            "prompt": said("user", pair.prompt.question),
            "chosen": said("assistant", pair.chosen),
            "rejected": said("assistant", pair.rejected),
        }
        for pair in pairs
        if not pair.prompt.history
    ]


def train_with_trl(folder: RunFolder, output: Path) -> dict:
    """Figures of the steps after the first: {"seconds_a_pair", "peak_memory" in bytes, "on_gpu", "first_loss"}."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import DPOConfig, DPOTrainer

    settings = folder.read_config()
    config = TrainingConfig.from_dict(settings["training"])
    base = load_base(find_base(settings["base"]), config)
    rows = trl_rows((PreferencePair.from_row(row) for row in folder.read_rows()), folder.image_path)
    clock = _Clock()
    trainer = DPOTrainer(
        model=base.model,
        args=DPOConfig(
            output_dir=str(output),
            beta=config.beta,
            bf16=base.bfloat16,
            gradient_checkpointing=bool(config.gradient_checkpointing),
            max_length=None,
            max_steps=config.steps or -1,
            num_train_epochs=config.epochs,
            learning_rate=config.learning_rate,
            per_device_train_batch_size=max(1, config.batch_size // max(1, torch.cuda.device_count())),
            use_cpu=PartialState().device.type == "cpu",
            save_strategy="no",
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
        ),
        processing_class=base.processor,
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            target_modules=language_targets(base.model, config.lora_targets),
        ),
        callbacks=[clock],
    )
    trainer.train()
    later = clock.seconds[1:] or clock.seconds
    return {
        "seconds_a_pair": sum(later) / len(later) / trainer.args.per_device_train_batch_size,
        "peak_memory": used_memory(),
        "on_gpu": torch.cuda.is_available(),
        "first_loss": next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry),
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(train_with_trl(RunFolder(sys.argv[1]), Path(place))))
