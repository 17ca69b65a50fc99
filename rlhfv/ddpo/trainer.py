"""The loop of `transformers.Trainer` with the loss of pairs: what a step computes, what it reports, when it stops."""

import contextlib
import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import PartialState
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch.utils.data import Sampler, SequentialSampler
from transformers import Trainer, TrainerCallback

from rlhfv.ddpo.batches import Collator, EncodedPair, LengthGroups, image_groups
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.ddpo.devices import ShareLoader, Shares, all_values, main_value
from rlhfv.ddpo.loss import ddpo_loss, score_answers
from rlhfv.ddpo.outcome import own_peak
from rlhfv.ddpo.packing import PackedCollator
from rlhfv.ddpo.sharding import average_gradients, is_split
from rlhfv.ddpo.watch import Warned, Watch, to_device
from rlhfv.errors import RunFailed

EVENTS_A_SECOND = 2
WEIGHTS_FILE = "model.safetensors"
WATCH_FILE = "watch.json"
METRICS = (
    "loss",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "logps/chosen",
    "logps/rejected",
)


class PairTrainer(Trainer):
    """The loop over encoded pairs. `whole_logits` makes the model compute all logits (see crosscheck.py)."""

    def __init__(self, *, config: TrainingConfig, collator: Collator | PackedCollator, **arguments):
        self.config, self.whole_logits = config, False
        self.pairs_at_once = 1.0
        super().__init__(data_collator=collator, **arguments)
        # A PEFT forward takes any keyword, so Trainer would take the loss for one already divided by the accumulation.
        self.model_accepts_loss_kwargs = False
        # The model is neither wrapped nor split again. Before, Trainer would have refused it: it cannot save an
        # optimizer of split weights, and here only whole ones are trained.
        self.is_distributed_loading_by_transformers = is_split(self.model)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The batches of one optimizer step on this device."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        shares = self.callback_handler.train_dataloader.shares
        pairs = shares.pairs_in_step(self.state.global_step)
        self.pairs_at_once = pairs / (len(batches) * self.args.world_size)
        return batches, items

    def part_of_mean(self, losses: torch.Tensor, inputs: dict) -> torch.Tensor:
        """The loss of one batch, out of `losses` `[pairs]`. Trainer takes the mean over the batches of a step and
        accelerate that over devices, so that a batch of fewer pairs would count for more; their mean size sets that
        right, and a batch that only keeps the others company counts for nothing."""
        return inputs["counts"] * losses.sum() / self.pairs_at_once

    def get_train_dataloader(self) -> ShareLoader:
        order = self._get_train_sampler()

        def collate(pairs: list[EncodedPair]) -> dict:
            with self.data_collator.image_inputs.at(f"epoch {order.epoch}"):
                return self.data_collator(pairs)

        return self._share_out(self.train_dataset, order, self.config.batch_size, collate)

    def get_eval_dataloader(self, eval_dataset=None) -> ShareLoader:
        pairs = self.eval_dataset
        at_once = self.args.train_batch_size * self.args.world_size
        # The way of packing may still change after this.
        return self._share_out(pairs, SequentialSampler(pairs), at_once, lambda some: self.data_collator(some))

    def _sync_replicated_trainable_parameters(self, model):
        """Nothing: `split_weights` gave all devices the same start, and `_clip_grad_norm` takes the mean."""

    @contextlib.contextmanager
    def _defer_fsdp_gradient_reduction(self):
        yield  # what FSDP has split is frozen

    def _clip_grad_norm(self, model):
        if self.is_distributed_loading_by_transformers:
            average_gradients(model)
        return super()._clip_grad_norm(model)

    def _share_out(
        self, pairs: list[EncodedPair], order: Sampler, batch_size: int, collate: Callable[[list], dict]
    ) -> ShareLoader:
        at_once, world, rank = self.args.train_batch_size, self.args.world_size, self.args.process_index
        return ShareLoader(pairs, Shares(order, batch_size, at_once, world, rank), collate)

    def score(self, model, inputs) -> torch.Tensor:
        """Float32 log-probabilities at the sites of a batch."""
        sites = inputs["sites"]
        places = (sites["rows"], sites["positions"], sites["targets"])
        return model(**inputs["model"], answer_sites=places, whole_logits=self.whole_logits)

    def floating_point_ops(self, inputs) -> int:
        return 0  # Trainer's estimate counts tokens of a flat batch

    def _get_train_sampler(self, train_dataset=None):
        pairs: list[EncodedPair] = self.train_dataset
        lengths = [pair.length for pair in pairs]
        return LengthGroups(lengths, image_groups(pairs), self.config.batch_size, self.config.seed)


class DDPOTrainer(PairTrainer):
    """Trains `model` on encoded pairs that know their reference.

    `emit(kind, **fields)` takes the events of the main process; `probe()` answers the probe questions and gives
    (words, recall); `should_stop()` is asked after each step. `stopped_by` is what stopped the run early.
    """

    def __init__(
        self,
        *,
        watch: Watch,
        emit: Callable[..., None],
        probe: Callable[[], tuple[float, float]],
        should_stop: Callable[[], bool],
        look_every: int,
        **arguments,
    ):
        self.watch, self.emit, self.probe = watch, emit, probe
        self.should_stop, self.look_every = should_stop, look_every
        self.stopped_by: Warned | str | None = None
        self._sums: dict[str, torch.Tensor] = {}
        self._unwritten: list[dict] = []
        self._written = self._began = 0.0
        self._began_at = 0
        self._in_steps = self._step_began = 0.0
        super().__init__(callbacks=[_Course(self)], **arguments)

    # ---- the step

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        began = time.monotonic()
        found = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._in_steps += time.monotonic() - began
        return found

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        sites, reference, pairs = inputs["sites"], inputs["reference"], inputs["pairs"]
        log_probs = self.score(model, inputs)
        scores = {}
        for side in ("chosen", "rejected"):
            for name, values in (("now", log_probs), ("start", reference)):
                weights = sites[f"{side}_weights"]
                scores[side, name] = score_answers(values, sites["pair"], weights, pairs, self.config.normalised)
        losses, chosen, rejected = ddpo_loss(
            scores["chosen", "now"],
            scores["rejected", "now"],
            scores["chosen", "start"],
            scores["rejected", "start"],
            self.config.beta,
        )
        self._check_first(losses)
        with torch.no_grad():
            plain = {
                side: score_answers(log_probs, sites["pair"], sites[f"is_{side}"], pairs, normalised=False)
                for side in ("chosen", "rejected")
            }
            kept = sites["is_chosen"]
            per_token = [log_probs[kept].mean() * pairs, reference[kept].mean() * pairs]
            figures = [losses.sum(), chosen.sum(), rejected.sum(), (chosen - rejected).sum()]
            figures += [(chosen > rejected).float().sum(), plain["chosen"].sum(), plain["rejected"].sum()]
            figures += [*per_token, torch.tensor(float(pairs), device=losses.device)]
        mode = "train" if model.training else "eval"
        self._sums[mode] = self._sums.get(mode, 0) + inputs["counts"] * torch.stack(figures)
        loss = self.part_of_mean(losses, inputs) if model.training else losses.mean()
        return (loss, {"losses": losses.detach()}) if return_outputs else loss

    def score_pairs(self, model, pairs: list[EncodedPair], collator=None) -> torch.Tensor:
        """Float32 log-probabilities of the tokens of all chosen answers, then of all rejected ones."""
        collator = collator or self.data_collator
        return collator.spread(pairs, self.score(model, to_device(collator(pairs), self.args.device)))

    def _check_first(self, losses: torch.Tensor) -> None:
        """Before the first step policy and reference are one model, so the loss is ln 2 whatever the pairs are."""
        if self.state.global_step or not self.model.training:
            return
        if self.config.sft_epochs and self.config.lora_dropout:
            return  # what the warm-up learnt is dropped in part here, and was whole in the reference
        if self.config.image_transform != "eval":
            return  # the reference saw other crops
        distance = losses.detach() - math.log(2)
        # In bfloat16 a pair scores a little otherwise in other company, up or down; what is wrong lies to one side.
        right = distance.mean().abs() < 0.1 if self.args.bf16 else distance.abs().max() < 1e-3
        if not right:
            raise RunFailed(
                f"The first loss is {losses.mean().item():.6f}, not ln 2.",
                "Before the first step the model and its reference are the same, so something differs between them:"
                " precision, template or images.",
                "Start a new run; if it says this again, use float32 and report the model's name.",
            )

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            self.compute_loss(model, inputs)
        return None, None, None  # `log` has the means over the pairs of all devices

    # ---- what it reports

    def last_figures(self) -> dict[str, float]:
        """The last value of each figure that was logged, held-out ones with the prefix `eval_`."""
        figures = {}
        for entry in self.state.log_history:
            figures.update(entry)
        return {name: value for name, value in figures.items() if "/" in name or name in ("loss", "eval_loss")}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        held_out = any(name.startswith("eval_") for name in logs)
        figures = self._sums.pop("eval" if held_out else "train", None)
        if figures is None or "train_runtime" in logs:
            super().log(logs, start_time)
            return
        figures = self.accelerator.reduce(figures, "sum").tolist()
        *figures, count = figures
        means = {name: figures[place] / count for place, name in enumerate(METRICS)}
        if not math.isfinite(means["loss"]):
            raise RunFailed(
                f"The loss is {means['loss']} at step {self.state.global_step}.",
                "The weights have left the range of numbers; nothing can be learnt from here.",
                "Start again with a smaller learning rate.",
            )
        if held_out:
            logs = {f"eval_{name}": value for name, value in means.items()}
        else:
            logs = {**{name: logs[name] for name in ("learning_rate", "grad_norm") if name in logs}, **means}
        super().log(dict(logs), start_time)
        if held_out:
            self._write(logs)
        else:
            self._unwritten.append(logs)
            self.take(self.watch.see_chosen(figures[-2] / count, figures[-1] / count))
            last = self.state.global_step >= self.state.max_steps or self.control.should_training_stop
            if last or time.monotonic() - self._written >= 1 / EVENTS_A_SECOND:
                names = self._unwritten[-1]
                self._write({n: sum(each[n] for each in self._unwritten) / len(self._unwritten) for n in names})
                self._unwritten, self._written = [], time.monotonic()

    def take(self, warned: Warned | None) -> None:
        """Tell a warning; end the run on it when that was asked for."""
        if warned is None:
            return
        self.emit(
            "warn",
            sign=warned.sign,
            what=warned.what,
            why=warned.why,
            fix=warned.fix,
            step=self.state.global_step,
        )
        if self.config.stop_on_warning:
            self.stop(warned)

    def stop(self, reason: Warned | str) -> None:
        self.stopped_by = self.stopped_by or reason
        self.control.should_save = True
        self.control.should_training_stop = True

    def _write(self, figures: dict) -> None:
        step, elapsed = self.state.global_step, time.monotonic() - self._began
        done = step - self._began_at
        speed = done / elapsed if elapsed > 0 else 0.0
        self.emit(
            "step",
            **figures,
            step=step,
            total_steps=self.state.max_steps,
            epoch=self.state.epoch,
            pairs_per_second=speed * self.config.batch_size,
            memory=used_memory(),
            eta=(self.state.max_steps - step) / speed if speed else None,
            step_seconds=self._in_steps / done if done else None,  # without looks and checkpoints
            processes=self.args.world_size,
        )

    def look(self) -> None:
        """Ask the probe questions and say what came back."""
        words, recall = main_value(self.probe())  # what follows from it has to be the same everywhere
        self.emit("log", text="Probe answers", probe_words=words, probe_recall=recall, step=self.state.global_step)
        self.take(self.watch.see_probes(words, recall))

    # ---- checkpoints: adapter or weights, no file with a path of this machine in it

    def _save_checkpoint(self, model, trial):
        if self.args.should_save:
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / WATCH_FILE).write_text(json.dumps(self.watch.state()))
        super()._save_checkpoint(model, trial)

    def _save_rng_state(self, output_dir):
        """By the main process for all: only its folder is the run's."""
        if self.args.world_size == 1:
            super()._save_rng_state(output_dir)
            return
        with tempfile.TemporaryDirectory() as place:
            super()._save_rng_state(place)
            files = all_values({file.name: file.read_bytes() for file in Path(place).iterdir()})
        if self.args.should_save:
            for name, data in ((name, data) for each in files for name, data in each.items()):
                (Path(output_dir) / name).write_bytes(data)

    def _save(self, output_dir=None, state_dict=None):
        if not self.args.should_save:
            return
        model = self.accelerator.unwrap_model(self.model)
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        if isinstance(model, PeftModel):
            model.save_pretrained(output_dir, state_dict=state_dict, save_embedding_layers=False)
        else:
            # Not save_pretrained: it renames weights to the layout of older files, which Trainer does not read back.
            values = state_dict or model.state_dict()
            tied = set(model.all_tied_weights_keys)
            kept = {name: value.contiguous() for name, value in values.items() if name not in tied}
            save_file(kept, Path(output_dir) / WEIGHTS_FILE)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        target = model or self.model
        if isinstance(target, PeftModel) or self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        values = load_file(Path(resume_from_checkpoint) / WEIGHTS_FILE)
        missing, unexpected = target.load_state_dict(values, strict=False)
        if unexpected or set(missing) - set(target.all_tied_weights_keys):
            raise RunFailed(
                "The checkpoint does not fit the model.",
                f"{len(missing)} weights are missing and {len(unexpected)} are unknown.",
                "Start a new run.",
            )


class _Course(TrainerCallback):
    """Looks at the model from time to time and stops when asked to."""

    def __init__(self, trainer: DDPOTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **rest):
        trainer = self.trainer
        if state.global_step == 0:
            trainer.look()
        trainer._began, trainer._began_at, trainer._written = time.monotonic(), state.global_step, 0.0
        trainer._in_steps = 0.0

    def on_step_begin(self, args, state, control, **rest):
        self.trainer._step_began = time.monotonic()

    def on_step_end(self, args, state, control, **rest):
        trainer = self.trainer
        if args.device.type == "cuda":
            torch.cuda.synchronize()
        trainer._in_steps += time.monotonic() - trainer._step_began
        if state.global_step % trainer.look_every == 0 or state.global_step >= state.max_steps:
            trainer.look()
        if trainer.should_stop():
            trainer.stop("asked")


def used_memory() -> int:
    """Bytes this process uses: the GPU's peak, else the process's resident peak."""
    if PartialState().device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return own_peak()
