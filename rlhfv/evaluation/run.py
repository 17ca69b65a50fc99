"""An evaluation as a run: `python -m rlhfv.evaluation.run RUN_FOLDER`. Goes on where it was stopped."""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from rlhfv.errors import RunFailed, StudioError
from rlhfv.evaluation.demo_world import (
    BASELINE,
    EvaluatedVoice,
    answer_scenes,
    check_scenes,
    read_answers,
    require_world,
)
from rlhfv.run_folder import RunFolder


def evaluate_run(folder: RunFolder, stopped=lambda: False) -> bool:
    """Answers, counts and writes results.json; returns False when it was stopped before the end.

    config["evaluation"] is {"scenes": number, "voices": [{"adapter": name in adapters/, "id": identity, "title"}]}.
    """
    from rlhfv.ddpo.base import find_base
    from rlhfv.models.local import LocalModel

    config = folder.read_config()
    settings = config["evaluation"]
    base = config["base"]
    entry = find_base(base)
    world, scenes = require_world(entry), check_scenes(settings["scenes"])
    folder.append_event("log", text=f"loading {entry.title}")
    model = LocalModel.load(entry)
    if model.identity.revision != base["revision"]:
        raise RunFailed(
            f"The base {base['name']!r} is not the one that was chosen.",
            f"It is {model.identity.revision[:12]}, the run asks for {base['revision'][:12]}.",
            "Bring that base back, or start a new evaluation.",
        )
    voices = [EvaluatedVoice(BASELINE, "Baseline")]
    for voice in settings["voices"]:
        identity = model.attach(folder.adapter_path(voice["adapter"]), name=voice["id"].partition("@")[0])
        if identity != voice["id"]:
            raise RunFailed(
                f"The adapter {voice['title']!r} is not the one that was chosen.",
                f"It is {identity}, the run asks for {voice['id']}.",
                "Start the evaluation again.",
            )
        voices.append(EvaluatedVoice(identity, voice["title"]))
    folder.append_event("state", state="running")
    began, first = time.monotonic(), None
    for done, total in answer_scenes(model, voices, world, scenes, folder.answers_file, stopped):
        first = done if first is None else first
        rate = (done - first) / max(time.monotonic() - began, 1e-6)
        eta = (total - done) / rate if rate else None
        folder.append_event("step", step=done, total_steps=total, answers_per_second=round(rate, 3), eta=eta)
    if done < total:
        return False
    from rlhfv.evaluation.report import build_results, render_table

    results = build_results(world, voices, read_answers(folder.answers_file), scenes)
    folder.write_results(results)
    print(render_table(results), flush=True)
    return True


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m rlhfv.evaluation.run", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="RUN_FOLDER", help="a frozen evaluation")
    folder = RunFolder(parser.parse_args(argv).folder)
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    try:
        folder.read_config()
        claim = folder.claim()
    except StudioError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        folder.stop_file.unlink(missing_ok=True)
        folder.append_event("state", state="starting")
        if evaluate_run(folder, lambda: bool(asked) or folder.stop_file.exists()):
            folder.append_event("done")
        else:
            folder.append_event("state", state="stopped")
        return 0
    except StudioError as error:
        folder.append_error(error)
        print(error, file=sys.stderr)
        return 1
    except BaseException as error:
        folder.append_error(error)
        raise
    finally:
        os.close(claim)


if __name__ == "__main__":
    sys.exit(main())
