"""A short supervised stage on the corrected answers, before DDPO.

What a person wrote is not what the model would have said, and DDPO, which holds the new model to the old one, learns
such words slowly. OPA-DPO (arXiv 2501.09695) therefore teaches the corrected answers first. The model that comes out
is the policy that DDPO starts with, and its reference.
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Sequence

from transformers import TrainerCallback

from rlhfv.ddpo.batches import EncodedPair
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.ddpo.cost import count_steps
from rlhfv.ddpo.loss import score_answers
from rlhfv.ddpo.trainer import DDPOTrainer, PairTrainer
from rlhfv.errors import RunFailed


def warm_up(
    trainer: DDPOTrainer,
    pairs: Sequence[EncodedPair],
    tell: Callable[[int, int], None],
    should_stop: Callable[[], None],
) -> tuple[float, float]:
    """Trains the model of `trainer` on the chosen answers, as its config's `sft_` settings say.

    Args:
        tell: takes the steps done and all steps.
        should_stop: asked after each step; it raises to end the stage, which then begins anew.

    Returns:
        Nats per token of the chosen answers in the first and in the last quarter of the steps.
    """
    config, model = trainer.config, trainer.model
    steps = count_steps(len(pairs), config.batch_size, config.sft_epochs)
    arguments = dataclasses.replace(
        trainer.args,
        learning_rate=config.sft_learning_rate,
        num_train_epochs=config.sft_epochs,
        max_steps=-1,
        warmup_steps=min(math.ceil(config.warmup_ratio * steps), steps - 1),
        eval_strategy="no",
        save_strategy="no",
    )
    arguments._n_gpu = trainer.args._n_gpu  # counted anew in a copy
    stage = _SupervisedTrainer(
        tell=tell,
        should_stop=should_stop,
        config=config,
        collator=trainer.data_collator,
        model=model,
        train_dataset=[_chosen_only(pair) for pair in pairs],
        args=arguments,
    )
    stage.whole_logits = trainer.whole_logits
    stage.train()  # what accelerate puts over the model's forward stays; it does so once
    losses = [entry["loss"] for entry in stage.state.log_history if "loss" in entry]
    quarter = math.ceil(len(losses) / 4)
    return statistics.fmean(losses[:quarter]), statistics.fmean(losses[-quarter:])


def _chosen_only(pair: EncodedPair) -> EncodedPair:
    """Both answers are the chosen one, which packed rows hold once and other rows twice. It is another pair, and of
    another length."""
    nothing = [0.0] * len(pair.chosen)
    return dataclasses.replace(
        pair, id=f"{pair.id}, chosen", rejected=pair.chosen, rejected_weights=nothing, reference=None
    )


class _SupervisedTrainer(PairTrainer):
    """Cross-entropy of the chosen answers: the mean over each answer's tokens, so that each counts the same."""

    def __init__(self, *, tell, should_stop, config: TrainingConfig, **arguments):
        super().__init__(config=config, callbacks=[_Steps(tell, should_stop)], **arguments)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        sites, pairs = inputs["sites"], inputs["pairs"]
        weights = sites["is_chosen"].float()
        scores = score_answers(self.score(model, inputs), sites["pair"], weights, pairs, normalised=True)
        loss = self.part_of_mean(-scores, inputs)
        return (loss, {}) if return_outputs else loss


class _Steps(TrainerCallback):
    def __init__(self, tell, should_stop):
        self.tell, self.should_stop = tell, should_stop

    def on_log(self, args, state, control, logs=None, **rest):
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            raise RunFailed(
                f"The loss of the warm-up is {logs['loss']} at step {state.global_step}.",
                "The weights have left the range of numbers; nothing can be learnt from here.",
                "Start again with a smaller sft_learning_rate.",
            )

    def on_step_end(self, args, state, control, **rest):
        self.should_stop()
        self.tell(state.global_step, state.max_steps)
