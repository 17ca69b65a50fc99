"""One attempt at a run: encode, check, ask the start model, train, keep what came of it."""

import contextlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from transformers import TrainingArguments, set_seed

from rlhfv.corrections.pairs import PreferencePair
from rlhfv.ddpo.base import Base, find_base, load_base, make_trainable, without_adapter
from rlhfv.ddpo.batches import Collator, EncodedPair, PairEncoder, Unusable, image_groups, split_held_out
from rlhfv.ddpo.card import write_card
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.ddpo.cost import (
    Cost,
    count_cost,
    estimate_run,
    free_memory,
    largest_pair,
    measure_speed,
    pairs_at_once,
    total_steps,
)
from rlhfv.ddpo.crops import RandomCrops
from rlhfv.ddpo.crosscheck import choose_fast_ways, compare_packed
from rlhfv.ddpo.devices import all_values, any_process, main_value
from rlhfv.ddpo.export import save_whole_model
from rlhfv.ddpo.limit import TimeLimit
from rlhfv.ddpo.outcome import describe_estimate, earlier_seconds, find_estimate
from rlhfv.ddpo.packing import PACKED, PackedCollator, tokens_saved, why_not_packed
from rlhfv.ddpo.reference import ReferenceCache, StaleReference, compute_references, describe_setting, pair_key
from rlhfv.ddpo.scoring import score_at_sites
from rlhfv.ddpo.sharding import held_elsewhere, is_split, refuse_other_splitting, split_weights
from rlhfv.ddpo.trainer import WATCH_FILE, DDPOTrainer, used_memory
from rlhfv.ddpo.trees import gather
from rlhfv.ddpo.vision import ImageInputs, TowerAway
from rlhfv.ddpo.warmup import warm_up
from rlhfv.ddpo.watch import Warned, Watch, answer_probes, choose_probes, measure_probes
from rlhfv.errors import InvalidData, RunFailed, StudioError
from rlhfv.models.catalog import Entry
from rlhfv.run_folder import RunFolder

LOOKS = 8
"""How often a run asks its probes, measures held-out pairs and keeps a checkpoint."""
_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


class Stopped(Exception):
    """Asked to stop before training began."""


@dataclass(frozen=True)
class TrainingResult:
    """`path` holds the adapter (or, after full tuning, the model); `figures` the last figures; `warnings` the signs of
    ruin that were seen. `state` is "done" or "stopped"; a stopped run has no `path`."""

    state: str
    path: Path | None
    figures: dict
    warnings: tuple[str, ...] = ()


class Attempt:
    """From the frozen folder to the adapter, or to where it was stopped. `main` says that this process writes."""

    def __init__(self, folder: RunFolder, settings: dict, emit: Callable, should_stop: Callable[[], bool], main: bool):
        self.folder, self.settings, self.emit, self.main = folder, settings, emit, main
        self.stop_asked = should_stop
        self.config = TrainingConfig.from_dict(settings["training"])
        self.began = time.monotonic()
        seconds = os.environ.get("RLHFV_RUN_SECONDS")
        self.crops = self.config.image_transform == "random-crop"
        self.limit = TimeLimit(self.began, float(seconds), emit) if seconds else None
        self._told = 0.0

    def go(self, entry: Entry | None) -> TrainingResult:
        config = self.config
        refuse_other_splitting()
        rows = {row["id"]: row for row in self.folder.read_rows()}
        base = load_base(entry or find_base(self.settings["base"]), config, self.settings["base"])
        score_at_sites(base.model)
        model = make_trainable(base, config)
        if config.split_weights:
            self._split(model, base)
        images = self.images = self._image_inputs(base)
        pairs = self._encode(base, images, rows.values())
        training, held_out = split_held_out(pairs, config.eval_fraction, config.seed)
        if self.crops:
            images.spare([pair.id for pair in held_out])
        checkpoint = self._last_checkpoint()
        cost = count_cost(base.model.config, config, base.bfloat16, PartialState().device.type == "cuda")
        if is_split(model):
            cost = replace(cost, fixed=cost.fixed - held_elsewhere(model))
        packed = config.packed == "auto" and not why_not_packed(base.model)
        make_trainer = partial(self._make_trainer, base, model, images, training, held_out, checkpoint)
        trainer = make_trainer(self._at_once(cost, pairs, packed))
        self.references = ReferenceCache(self.folder.path / "reference.safetensors", describe_setting(base))
        if self.crops:
            self.references.setting |= {"images": f"{config.image_transform}, seed {config.seed}"}
        self._crosscheck(model, images, trainer, pairs, bool(checkpoint))
        if packed and not isinstance(trainer.data_collator, PackedCollator):  # two rows a pair need more memory
            fewer, whole_logits = self._at_once(cost, pairs, packed=False), trainer.whole_logits
            if fewer < trainer.args.per_device_train_batch_size:
                trainer = make_trainer(fewer)
                trainer.whole_logits = whole_logits
        self._tell_estimate(cost, trainer, pairs)
        if config.sft_epochs:
            self.references.setting |= {"start": f"{config.sft_epochs:g} epochs at {config.sft_learning_rate:g}"}
            if not checkpoint:
                self._warm_up(trainer, training)
        self._compute_references(model, trainer, pairs, checkpoint)
        self.emit(
            "state",
            state="running",
            message=f"Training on {len(training)} pairs, {len(held_out)} held out.",
            pairs=len(training),
            held_out=len(held_out),
            resumed=bool(checkpoint),
        )
        if self.limit:
            trainer.add_callback(self.limit)
        if not is_split(model):
            trainer.add_callback(TowerAway(images, pairs))
        set_seed(config.seed)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if trainer.stopped_by and trainer.state.global_step < trainer.state.max_steps:
            return self._stopped(trainer)
        return self._finish(base, trainer, rows, training, held_out)

    # ---- before the first step

    def _image_inputs(self, base: Base) -> ImageInputs:
        if not self.crops:
            return ImageInputs(base.model, base.processor, self.folder.image_path)
        text = "Images are cropped at random, anew for each pair and epoch, and otherwise for the reference: the first"
        self.emit("log", text=f"{text} loss need not be ln 2, and kept features of images serve the looks only.")
        return RandomCrops(base.model, base.processor, self.folder.image_path, self.config.seed)

    def _split(self, model, base: Base) -> None:
        if PartialState().num_processes == 1:
            return self.emit("log", text="There is one device, so the weights are not split.")
        split_weights(model, base)
        share = f"{held_elsewhere(model) / 1e6:,.1f} MB of the base are held by the others"
        self.emit("log", text=f"The weights are split over {PartialState().num_processes} devices: {share}.")

    def _last_checkpoint(self) -> Path | None:
        """Raises RunFailed where the run cannot go on from it as it would have gone on by itself."""
        checkpoint, world = self.folder.last_checkpoint(), PartialState().num_processes
        if len(seen := set(all_values(checkpoint and checkpoint.name))) > 1:
            raise RunFailed(
                f"The machines of this run see different checkpoints: {', '.join(sorted(map(str, seen)))}.",
                "Each of them reads the run folder, and only the first one writes it.",
                "Put the run folder on a disk that all of them share, or copy it to each.",
            )
        if checkpoint and self.config.lora_dropout and not self.config.full_tuning:
            before = len(list(checkpoint.glob("rng_state*.pth")))
            if before != world:
                raise RunFailed(
                    f"The run began on {before} devices and is to go on with {world}.",
                    "Each device draws the adapter's dropout for itself, so the run would become another one.",
                    f"Resume it on {before} devices, or start a new run.",
                )
        return checkpoint

    def _encode(self, base: Base, images: ImageInputs, rows: Iterable[dict]) -> list[EncodedPair]:
        encoder = PairEncoder(base.processor, self.folder.image_path, self.config, base.end_tokens, images.keep)
        usable, rows = [], list(rows)
        for number, row in enumerate(rows, 1):
            self._tell("Reading pairs and images", number, len(rows))
            try:
                usable.append(encoder.encode(PreferencePair.from_row(row)))
            except Unusable as reason:
                self.emit("skip", pair=row["id"], reason=str(reason))
            except StudioError as error:
                self.emit("skip", pair=row["id"], reason=f"{error.what} {error.why}")
        if not usable:
            raise RunFailed(
                f"None of {len(rows)} pairs can be trained on.",
                "Each was left out; the reasons stand in the run's list of skipped pairs.",
                "Correct more answers, or change the settings that leave pairs out.",
            )
        return usable

    def _at_once(self, cost: Cost, pairs: list[EncodedPair], packed: bool) -> int:
        config, world, device = self.config, PartialState().num_processes, PartialState().device
        if config.batch_size % world:
            raise InvalidData(
                f"A batch of {config.batch_size} pairs is to be shared by {world} devices.",
                "Each device has to get the same number.",
                f"Choose a batch size that {world} divides.",
            )
        tokens, free = largest_pair(pairs, packed), free_memory(device)
        return min(all_values(pairs_at_once(config.batch_size // world, tokens, cost, free)))

    def _tell_estimate(self, cost: Cost, trainer: DDPOTrainer, pairs: list[EncodedPair]) -> None:
        """Once, at the start of the first attempt: it is what the end is compared with."""
        device = PartialState().device
        if not self.main or find_estimate(self.folder.read_events()[0]):
            return
        rows = trainer.data_collator if isinstance(trainer.data_collator, PackedCollator) else None
        at_once, world = trainer.args.per_device_train_batch_size, PartialState().num_processes
        looks = min(LOOKS, total_steps(len(trainer.train_dataset), self.config)) + 1
        speed = measure_speed(device, trainer.args.bf16)
        estimate = estimate_run(pairs, cost, self.config, rows, at_once, looks, speed, world)
        text = describe_estimate(estimate.seconds, estimate.memory, device.type == "cuda")
        self.emit("log", text=text, estimate=vars(estimate))

    def _make_trainer(self, base, model, images, training, held_out, checkpoint, at_once: int) -> DDPOTrainer:
        config, world = self.config, PartialState().num_processes
        device = PartialState().device
        steps = total_steps(len(training), config)
        every = max(1, math.ceil(steps / LOOKS))
        watch = Watch()
        if checkpoint:
            watch = Watch.from_state(json.loads((checkpoint / WATCH_FILE).read_text()))
        probes = choose_probes(held_out or training, config.seed)
        wanted = self._chosen_texts([pair.id for pair in probes])

        def probe() -> tuple[float, float]:
            images.bring_back()
            answers = answer_probes(model, base.processor.tokenizer, probes, images, base.end_tokens)
            return measure_probes(answers, wanted)

        arguments = TrainingArguments(
            output_dir=str(self.folder.checkpoints),
            per_device_train_batch_size=at_once,
            per_device_eval_batch_size=at_once,
            gradient_accumulation_steps=config.batch_size // world // at_once,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            num_train_epochs=config.epochs,
            max_steps=config.steps or -1,
            warmup_steps=min(math.ceil(config.warmup_ratio * steps), steps - 1),  # the first of them has rate 0
            lr_scheduler_type=_SCHEDULES[config.schedule],
            logging_steps=1,
            logging_nan_inf_filter=False,
            eval_strategy="steps" if held_out else "no",
            eval_steps=every,
            save_strategy="steps",
            save_steps=every,
            save_total_limit=2,
            bf16=base.bfloat16,
            ddp_find_unused_parameters=config.full_tuning,  # the last layer of a tower is often not asked
            remove_unused_columns=False,
            dataloader_pin_memory=False,  # torch cannot pin the features, which are a ModelOutput
            use_cpu=device.type == "cpu",
            report_to="none",
            disable_tqdm=True,
            seed=config.seed,
        )
        arguments._n_gpu = 1  # one process, one device; Trainer would spread a batch over all GPUs of a lone process
        pad = base.processor.tokenizer.pad_token_id
        return DDPOTrainer(
            config=config,
            collator=Collator(base.end_tokens[0] if pad is None else pad, images),
            watch=watch,
            emit=self.emit,
            probe=probe,
            should_stop=self._should_stop,
            look_every=every,
            model=model,
            args=arguments,
            train_dataset=training,
            eval_dataset=held_out or None,
        )

    def _chosen_texts(self, ids: list[str]) -> list[str]:
        chosen = {row["id"]: row["chosen"] for row in self.folder.read_rows()}
        return [chosen[name] for name in ids]

    def _crosscheck(self, model, images: ImageInputs, trainer: DDPOTrainer, pairs, resumed: bool) -> None:
        model.to(PartialState().device).eval()
        packed = PackedCollator(trainer.data_collator.pad_token, images, images.base)

        def score(batch: list[EncodedPair], whole_logits: bool) -> torch.Tensor:
            trainer.whole_logits = whole_logits
            return trainer.score_pairs(model, batch)

        reason = "that was asked for" if self.config.packed == "off" else ""
        if main_value(resumed and not self.references.agrees(PACKED)):
            reason = "the run began so"
        with trainer.accelerator.autocast():
            trainer.whole_logits, slow = choose_fast_ways(model, images, score, pairs)
            plain, one_row = (partial(trainer.score_pairs, model, collator=each) for each in (None, packed))
            packed.shares = False
            reason = reason or compare_packed(plain, one_row, pairs, images.base)
            packed.shares, apart = True, ""
            together = max(gather(packed.keys(pairs)), key=len)
            packed.shares = len(together) > 1 and not self.crops
            if len(together) > 1 and self.crops:
                apart = "each has a crop of its own"
            if packed.shares and not reason:
                apart = compare_packed(plain, one_row, [pairs[place] for place in together], images.base)
                packed.shares = not apart
        if slow:
            self.emit("log", text=f"This model trains more slowly than others: {slow}.")
        if reason:
            return self.emit("log", text=f"Two rows a pair: {reason}.", packed=False)
        trainer.data_collator, self.references.setting = packed, self.references.setting | PACKED
        fewer = f"{tokens_saved(packed, pairs, trainer.args.train_batch_size):.2f} times fewer tokens"
        way = "all pairs of an image in one row" if packed.shares else "one row a pair"
        self.emit("log", text=f"Packed, {way}: the same scores from {fewer}.", packed=True)
        if apart:
            self.emit("log", text=f"Pairs of one image do not share a row: {apart}.")

    def _warm_up(self, trainer: DDPOTrainer, training: list[EncodedPair]) -> None:
        self.references.remove()  # they are the warmed model's, and another device warms it a little otherwise

        def should_stop():
            if self._should_stop():
                raise Stopped

        set_seed(self.config.seed)
        before, after = warm_up(trainer, training, partial(self._tell, "Warming up on corrected answers"), should_stop)
        trainer.model.eval()
        self.emit("log", text=f"Warmed up: {before:.3f} → {after:.3f} nats a token of the corrected answers.")

    def _compute_references(self, model, trainer, pairs, checkpoint) -> None:
        try:
            known = self.references.load()
        except StaleReference as stale:
            if checkpoint:
                raise
            self.emit("log", text=f"{stale.what} They are computed anew.")
            known = {}
        known = main_value(known)
        keys = {pair.id: pair_key(pair, self.folder.image_path) for pair in pairs}
        missing = [pair for pair in pairs if keys[pair.id] not in known]
        if missing and checkpoint and (self.config.full_tuning or self.config.sft_epochs):
            raise RunFailed(
                f"The reference of {len(missing)} pairs is not there any more.",
                "Images or pairs of the run were changed; the start model that could give it is being trained.",
                "Duplicate the run.",
            )
        state, done = PartialState(), 0

        def score(batch: list[EncodedPair]) -> torch.Tensor:
            nonlocal done
            if self.stop_asked():
                raise Stopped
            done += len(batch)
            if is_split(model):
                any_process(True)
            self._tell("Asking the start model", done, len(mine))
            start = contextlib.nullcontext() if self.config.sft_epochs else without_adapter(model)
            with trainer.accelerator.autocast(), torch.no_grad(), start, self.images.at("reference"):
                return trainer.score_pairs(model, batch)

        groups = gather(image_groups(missing))[state.process_index :: state.num_processes]
        mine = [missing[place] for group in groups for place in group]
        compute_references(mine, score, trainer.args.per_device_train_batch_size)
        with trainer.accelerator.autocast(), torch.no_grad():
            while is_split(model) and any_process(False):  # another device still needs this one's share of the weights
                trainer.score_pairs(model, pairs[:1])
        for part in all_values({keys[pair.id]: pair.reference for pair in mine}):
            known.update(part)
        for pair in pairs:
            pair.reference = known[keys[pair.id]]
        if self.main and missing:
            self.references.save({keys[pair.id]: pair.reference for pair in pairs})

    def _should_stop(self) -> bool:
        return any_process(self.stop_asked())  # all have to leave at the same step

    def _tell(self, text: str, done: int, total: int) -> None:
        if self.stop_asked() or (self.limit and self.limit.is_over("before the first step; nothing was learnt")):
            raise Stopped
        if done == total or time.monotonic() - self._told > 1:
            self._told = time.monotonic()
            self.emit("log", text=text, done=done, total=total)

    # ---- after the last step

    def _stopped(self, trainer: DDPOTrainer) -> TrainingResult:
        reason, step = trainer.stopped_by, trainer.state.global_step
        because = reason.what if isinstance(reason, Warned) else "It was asked to."
        self.emit(
            "state", state="stopped", message=f"Stopped at step {step}; the checkpoint is kept. {because}", step=step
        )
        return TrainingResult("stopped", None, trainer.last_figures(), tuple(trainer.watch.raised))

    def _finish(self, base: Base, trainer, rows: dict, training, held_out) -> TrainingResult:
        events, _ = self.folder.read_events()
        figures = {
            **trainer.last_figures(),
            "steps": trainer.state.global_step,
            "seconds": round(earlier_seconds(events) + time.monotonic() - self.began, 1),
            "memory": used_memory(),
            **{f"estimated_{name}": round(value, 1) for name, value in find_estimate(events).items()},
        }
        path = self.folder.model if self.config.full_tuning else self.folder.adapter
        if self.main:
            building = path.with_name(f".{path.name}")
            shutil.rmtree(building, ignore_errors=True)
            model = trainer.accelerator.unwrap_model(trainer.model)
            if self.config.full_tuning:
                save_whole_model(model, base.processor, base.folder, building)
            else:
                model.save_pretrained(building, save_embedding_layers=False)
            identity = {"name": base.name, "revision": base.revision}
            used = [rows[pair.id] for pair in training]
            write_card(building, self.folder.id, identity, self.config, used, len(held_out), figures)
            shutil.rmtree(path, ignore_errors=True)
            os.replace(building, path)
            warnings = list(trainer.watch.raised)
            self.folder.write_results(
                {
                    "figures": figures,
                    "warnings": warnings,
                    "probes_at_start": trainer.watch.start,
                    "on_gpu": PartialState().device.type == "cuda",
                }
            )
            made, message = "adapter", "The adapter is ready."
            if self.config.full_tuning:
                made, message = "model", "The model is ready: export it, and start the studio with --model."
            self.emit("done", message=message, made=made, figures=figures, warnings=warnings)
            shutil.rmtree(self.folder.checkpoints, ignore_errors=True)
        return TrainingResult("done", path, figures, tuple(trainer.watch.raised))
