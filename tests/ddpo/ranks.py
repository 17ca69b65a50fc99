"""What each process of a launched test does: `ranks.py PLAN.json`, a list of runs, one after the other.

Each is {"folder", "base", "at_once", …}: "alone" gives every process but the main one a copy of the folder; "stop_at"
are the steps in which it is asked to stop, and "times" says how often it is begun; "doubts" lets the check of the
second process fail; "fails" lets the second process raise.
"""

import json
import math
import os
import signal
import sys
from pathlib import Path

from rlhfv.ddpo import attempt, crosscheck, scoring, trainer, watch
from rlhfv.ddpo.train import run


def main(plan: list[dict]) -> None:
    trainer.EVENTS_A_SECOND, attempt.LOOKS, watch.PROBES = math.inf, 2, 2
    scoring._HEAD_LOGITS = 16_000  # about fifty words at once, as a large vocabulary would have it
    rank = int(os.environ["RANK"])
    look, compare, ask = attempt.DDPOTrainer.log, crosscheck.why_not_packed, attempt.compute_references
    for asked in plan:
        folder = Path(asked["folder"])
        os.environ["RLHFV_BASE_PATH"] = asked["base"]
        if asked.get("alone") and rank:
            folder = Path(f"{folder}-of-rank-{rank}")
        stops = list(asked.get("stop_at", ()))

        def log(self, logs, start_time=None, folder=folder, stops=stops):
            look(self, logs, start_time)
            if stops and "loss" in logs and self.state.global_step == stops[0]:
                by_file = stops.pop(0) % 2
                if by_file and not rank:
                    (folder / "stop").touch()
                elif rank and not by_file:
                    os.kill(os.getpid(), signal.SIGTERM)

        def why_not(base, asked=asked):
            return "the second process doubts it" if rank and "doubts" in asked else compare(base)

        def references(*arguments, asked=asked):
            if rank and "fails" in asked:
                raise ArithmeticError("a fault of the second process")
            ask(*arguments)

        attempt.DDPOTrainer.log, crosscheck.why_not_packed = log, why_not
        attempt.compute_references = references
        attempt.pairs_at_once = lambda *_, size=asked["at_once"]: size
        for _ in range(asked.get("times", 1)):
            result = run(folder)
        os.write(1, f"{folder.name} {rank} {result.state}\n".encode())  # whole, whatever the others write


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
