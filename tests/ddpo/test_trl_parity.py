"""With γ 1 in sum mode this is DPO: TRL's own trainer, asked as a user would ask it, must find the same loss."""

import pytest
import torch
from datasets import Dataset

from rlhfv.ddpo.base import load_base, make_trainable, without_adapter
from rlhfv.ddpo.batches import Collator, PairEncoder
from rlhfv.ddpo.beside_trl import trl_rows
from rlhfv.ddpo.config import RECIPES
from rlhfv.ddpo.loss import ddpo_loss, score_answers
from rlhfv.ddpo.reference import compute_references
from rlhfv.ddpo.scoring import score_at_sites
from rlhfv.ddpo.vision import ImageInputs
from rlhfv.models.catalog import find_entry
from rlhfv.models.processors import load_processor

CONFIG = RECIPES["dpo"].changed(lora_rank=4, lora_alpha=8, lora_dropout=0.0)


def fill(model):
    """Random adapter weights, the same for the same names."""
    generator = torch.Generator().manual_seed(5)
    for name, value in sorted(model.named_parameters()):
        if "lora_" in name:
            value.data = torch.randn(value.shape, generator=generator) * 0.05


def our_loss(folder, find_image, pairs):
    base = load_base(find_entry(str(folder)), CONFIG)
    score_at_sites(base.model)
    model = make_trainable(base, CONFIG)
    fill(model)
    collate = Collator(base.end_tokens[0], ImageInputs(base.model, base.processor, find_image))
    encoder = PairEncoder(base.processor, find_image, CONFIG, base.end_tokens)
    encoded = [encoder.encode(pair) for pair in pairs]

    def score(batch):
        sites = batch["sites"]
        return model(**batch["model"], answer_sites=(sites["rows"], sites["positions"], sites["targets"]))

    with without_adapter(model):
        compute_references(encoded, lambda some: score(collate(some)), batch_size=2)
    batch = collate(encoded)
    sites, now = batch["sites"], score(batch)
    scores = [
        score_answers(values, sites["pair"], sites[f"{side}_weights"], len(pairs), CONFIG.normalised)
        for values in (now, batch["reference"])
        for side in ("chosen", "rejected")
    ]
    loss = ddpo_loss(*scores, CONFIG.beta)[0].mean()
    loss.backward()
    return loss, {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


def trl_loss(folder, find_image, pairs, output):
    from peft import LoraConfig
    from transformers import AutoModelForImageTextToText
    from trl import DPOConfig, DPOTrainer

    rows = trl_rows(pairs, find_image)
    trainer = DPOTrainer(
        model=AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32),
        args=DPOConfig(
            output_dir=str(output),
            beta=CONFIG.beta,
            bf16=False,
            gradient_checkpointing=False,
            max_length=None,
            use_cpu=True,
            report_to="none",
            per_device_train_batch_size=len(pairs),
        ),
        processing_class=load_processor(folder),
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(
            r=CONFIG.lora_rank, lora_alpha=CONFIG.lora_alpha, target_modules=r".*language_model.*(_proj)"
        ),
    )
    fill(trainer.model)
    loss = trainer.compute_loss(
        trainer.model, trainer.data_collator([trainer.train_dataset[n] for n in range(len(rows))])
    )
    loss.backward()
    return loss, {name: value.grad for name, value in trainer.model.named_parameters() if value.grad is not None}


def test_loss_and_gradients_equal_trl(bases, find_image, pairs, tmp_path):
    chosen = [pair for pair in pairs if not pair.prompt.history][:4]
    ours, our_gradients = our_loss(bases["llava"], find_image, chosen)
    theirs, their_gradients = trl_loss(bases["llava"], find_image, chosen, tmp_path)
    assert ours.item() != pytest.approx(0.693147, abs=1e-3), "the adapter changes nothing, so nothing is compared"
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-4)
    assert our_gradients.keys() == their_gradients.keys()
    first, second = (
        torch.cat([found[name].flatten() for name in sorted(found)]) for found in (our_gradients, their_gradients)
    )
    assert ((first - second).norm() / second.norm()).item() < 1e-4
