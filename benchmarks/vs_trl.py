"""Times a step here against TRL's DPOTrainer, in the version of tests/requirements.txt: `python -m benchmarks.vs_trl`.

Random LLaVA models in one process and one thread, in turn: TRL as it is on a CPU, which scores every position; TRL
"compact", which scores labelled positions only as it does on a GPU; and packed rows here. A step has one pair, or
several that ask about one image: 576 image tokens, about 30 of prompt and 115 of answer, first edit at a third. Every
round's CPU seconds and the shortest are printed, collator and optimizer included on both sides; runs of one and three
epochs are made up from the measured steps, image and reference. `--peaks` gives the resident peak of each way, in a
process of its own, four pairs a step.
"""

import argparse
import itertools
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from peft import LoraConfig
from PIL import Image
from transformers import AutoModelForImageTextToText

from rlhfv.corrections.conversation import Prompt
from rlhfv.corrections.edits import CorrectedAnswer, Edit
from rlhfv.corrections.pairs import PreferencePair, Provenance
from rlhfv.ddpo.base import load_base, make_trainable, without_adapter
from rlhfv.ddpo.batches import PairEncoder
from rlhfv.ddpo.config import RECIPES
from rlhfv.ddpo.loss import ddpo_loss, score_answers
from rlhfv.ddpo.packing import PackedCollator, tokens_saved
from rlhfv.ddpo.scoring import score_at_sites
from rlhfv.ddpo.vision import ImageInputs
from rlhfv.models.catalog import find_entry
from rlhfv.models.processors import load_processor
from tests.models.tiny import WORDS, build_llava

SHAPES = {
    "head-light": {"hidden": 640, "num_hidden_layers": 3, "num_attention_heads": 10, "vocab_size": 1024},
    "32k vocabulary": {"hidden": 256, "num_hidden_layers": 6, "num_attention_heads": 8, "vocab_size": 32064},
}
TOWER = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
CONFIG = RECIPES["dpo"].changed(lora_rank=16, lora_alpha=32, lora_dropout=0.0, weight_decay=0.0)
WAYS = ("TRL as is", "TRL compact", "packed")
EPOCHS = 3


def make_model(shape: str, folder: Path) -> Path:
    sizes = dict(SHAPES[shape])
    hidden = sizes.pop("hidden")
    text = {
        "hidden_size": hidden,
        "intermediate_size": int(hidden * 2.6875),
        "num_key_value_heads": sizes["num_attention_heads"],
        "initializer_range": 0.02,
    }
    return build_llava(folder, image_size=336, vision=TOWER, **text, **sizes)


def make_pairs(processor, folder: Path, count: int, an_image: int = 1) -> list[PreferencePair]:
    """Pairs with a question each, so many `an_image`; three words are corrected, the first at a third."""
    words, pairs = list(itertools.islice(itertools.cycle(WORDS), 400)), []
    while len(processor.tokenizer(" ".join(words))["input_ids"]) > 115:
        words.pop()
    answer = " ".join(words)
    places = [len(" ".join(words[: int(len(words) * share)])) + 1 for share in (0.34, 0.6, 0.8)]
    edits = tuple(Edit(at, answer.find(" ", at), "fork spoon", "object") for at in places)
    corrected = CorrectedAnswer(answer, edits)
    for number in range(count):
        picture, question = divmod(number, an_image)
        name = f"{picture:064x}.png"
        Image.radial_gradient("L").resize((336, 336)).rotate(picture).convert("RGB").save(folder / name)
        prompt = Prompt(" ".join(WORDS[question : question + 20]), (name,))
        made = Provenance(annotator="benchmark")
        pairs.append(
            PreferencePair(f"p{number}", prompt, corrected.corrected, answer, corrected.edits, "corrected", made)
        )
    return pairs


class Ours:
    """`look` encodes the images, `refer` asks the start model, `step` learns from the pairs."""

    def __init__(self, model: Path, images: Path, pairs: list[PreferencePair], checkpointing: bool):
        base = load_base(find_entry(str(model)), CONFIG)
        score_at_sites(base.model)
        self.base, self.model = base, make_trainable(base, CONFIG).train()
        if checkpointing:
            base.model.gradient_checkpointing_enable({"use_reentrant": False})
        self.images, self.prompts = ImageInputs(base.model, base.processor, images.joinpath), {}
        encoder = PairEncoder(base.processor, images.joinpath, CONFIG, base.end_tokens, self._hold)
        self.pairs = [encoder.encode(pair) for pair in pairs]
        self.collate = PackedCollator(base.end_tokens[0], self.images, base.model)
        self.optimizer = torch.optim.AdamW([v for v in self.model.parameters() if v.requires_grad], lr=1e-5)

    def _hold(self, names, tensors):
        self.prompts[names] = dict(tensors)

    def score(self, batch):
        sites = batch["sites"]
        return self.model(**batch["model"], answer_sites=(sites["rows"], sites["positions"], sites["targets"]))

    def look(self):
        for names, tensors in self.prompts.items():
            self.images.keep(names, tensors)

    @torch.no_grad()
    def refer(self):
        with without_adapter(self.model):
            self.reference = self.score(self.collate(self.pairs))

    def step(self):
        batch = self.collate(self.pairs)
        sites, count, now = batch["sites"], len(self.pairs), self.score(batch)
        scores = [
            score_answers(values, sites["pair"], sites[f"{side}_weights"], count, CONFIG.normalised)
            for values in (now, self.reference)
            for side in ("chosen", "rejected")
        ]
        ddpo_loss(*scores, CONFIG.beta)[0].mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


class Theirs:
    """`step` is TRL's own collator and loss, scoring labelled positions only when `compact`."""

    def __init__(self, model: Path, images: Path, pairs: list[PreferencePair], checkpointing: bool, compact: bool):
        import trl.trainer.utils  # not at the top: the peak of the other way is measured without it
        from datasets import Dataset
        from trl import DPOConfig, DPOTrainer

        from rlhfv.ddpo.beside_trl import trl_rows

        rows = trl_rows(pairs, images.joinpath)
        self.trl, self.compact, self.count = trl.trainer.utils, compact, len(rows)
        self.own = trl.kernels.chunked_logprob._use_triton
        self.trainer = DPOTrainer(
            model=AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32),
            args=DPOConfig(
                output_dir=str(model.parent / "trl"),
                beta=CONFIG.beta,
                bf16=False,
                gradient_checkpointing=checkpointing,
                max_length=None,
                use_cpu=True,
                report_to="none",
                per_device_train_batch_size=len(rows),
            ),
            processing_class=load_processor(model),
            train_dataset=Dataset.from_list(rows),
            peft_config=LoraConfig(r=16, lora_alpha=32, target_modules=r".*language_model.*(_proj)"),
        )
        self.model = self.trainer.model.train()
        if checkpointing:  # Trainer does it when training begins
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        self.optimizer = torch.optim.AdamW([v for v in self.model.parameters() if v.requires_grad], lr=1e-5)

    def step(self):
        self.trl._use_triton = (lambda device: True) if self.compact else self.own
        rows = [self.trainer.train_dataset[number] for number in range(self.count)]
        self.trainer.compute_loss(self.model, self.trainer.data_collator(rows)).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def prepare(way: str, checkpointing: bool, model: Path, images: Path, count: int, an_image: int = 1):
    pairs = make_pairs(load_processor(model), images, count, an_image)
    if way == "packed":
        return Ours(model, images, pairs, checkpointing)
    return Theirs(model, images, pairs, checkpointing, way == "TRL compact")


def seconds(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def compare_times(shape: str, rounds: int, ways: list[str], pairs: int, root: Path) -> None:
    model = make_model(shape, root / "model")
    settings = [(way, checkpointing) for checkpointing in (False, True) for way in ways]
    stages = {setting: prepare(*setting, model, root, pairs, pairs) for setting in settings}
    spent: dict[tuple, list[float]] = {}
    for _ in range(rounds + 1):
        for (way, checkpointing), stage in stages.items():
            parts = ("look", "refer", "step") if way == "packed" else ("step",)
            if way == "packed":
                stage.images._kept.clear()
            for part in parts:
                spent.setdefault((way, checkpointing, part), []).append(seconds(getattr(stage, part)))
    ours = stages["packed", False]
    pair, fewer = ours.pairs[0], tokens_saved(ours.collate, ours.pairs, pairs)
    answers = f"{len(pair.chosen)} and {len(pair.rejected)} of answer"
    print(f"{shape}: {len(pair.prompt)} tokens of image and prompt, {answers}; {fewer:.2f} times fewer")
    print(f"  CPU s a step of {pairs} on one image; one round before these was for warming up")
    for (way, checkpointing, part), values in spent.items():
        shown = " ".join(f"{value:.2f}" for value in values[1:])
        print(f"  {way}, checkpointing {'on' if checkpointing else 'off'}, {part}: {shown}")
    least = {key: min(values[1:]) for key, values in spent.items()}
    for theirs, ours in ((False, False), (True, True), (True, False)):
        for way in ways[:-1]:
            step = least["packed", ours, "step"]
            once = least["packed", ours, "look"] + least["packed", ours, "refer"]
            base = least[way, theirs, "step"]
            runs = [epochs * base / (once + epochs * step) for epochs in (1, EPOCHS)]
            print(
                f"  against {way} (checkpointing {'on' if theirs else 'off'}, here {'on' if ours else 'off'}):"
                f" {base / step:.2f}x a step, {runs[0]:.2f}x in one epoch, {runs[1]:.2f}x in {EPOCHS}"
            )


def compare_peaks(shape: str, ways: list[str]) -> None:
    for checkpointing in (False, True):
        for way in ways:
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.vs_trl", "--shape", shape, "--peak-of", way]
            command += ["--checkpointing"] if checkpointing else []
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            print(
                f"  {way}, checkpointing {'on' if checkpointing else 'off'}: {done.stdout.split()[-1]} MB", flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="head-light")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=1, help="pairs a step, all on one image (default: %(default)s)")
    parser.add_argument("--ways", nargs="+", choices=WAYS[:-1], default=list(WAYS[:-1]), help="what to compare with")
    parser.add_argument("--peaks", action="store_true", help="resident peaks instead of times")
    parser.add_argument("--peak-of", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--checkpointing", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if options.peaks:
        compare_peaks(options.shape, [*options.ways, "packed"])
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if not options.peak_of:
            compare_times(options.shape, options.rounds, [*options.ways, "packed"], options.pairs, root)
            return
        model = make_model(options.shape, root / "model")
        stage = prepare(options.peak_of, options.checkpointing, model, root, 4)
        if options.peak_of == "packed":
            stage.refer()
        for _ in range(2):
            stage.step()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


if __name__ == "__main__":
    main()
