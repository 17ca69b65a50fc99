"""A run on a machine that many share: it ends in time, with what it has learnt until then."""

import time
from collections.abc import Callable

from transformers import TrainerCallback

from rlhfv.ddpo.devices import any_process


class TimeLimit(TrainerCallback):
    """Ends the training at the first step after `seconds`, counted from `began` on the monotonic clock, as if that had
    been the last step. `emit` takes the events that say so."""

    def __init__(self, began: float, seconds: float, emit: Callable[..., None]):
        self.ends, self.seconds, self.emit = began + seconds, seconds, emit
        self._told = False

    def is_over(self, where: str, decide: Callable[[bool], bool] = bool) -> bool:
        """Whether the time is over; the first time it is, that is told, with what `where` says. `decide` makes one
        answer of those of all processes."""
        if not decide(time.monotonic() >= self.ends):
            return False
        if not self._told:
            self._told = True
            self.emit("log", text=f"The {self.seconds:g} seconds that a run has here are over {where}.")
        return True

    def on_train_begin(self, args, state, control, **rest):
        text = f"Many share this machine: a run has {self.seconds:g} seconds, and keeps what it has learnt by then."
        self.emit("log", text=text)

    def on_step_end(self, args, state, control, **rest):
        step, steps = state.global_step, state.max_steps
        told = f"at step {step} of {steps}; the adapter holds what was learnt"
        if step < steps and self.is_over(told, any_process):  # all have to leave at the same step
            control.should_training_stop = True
