"""`train`, `evaluate` and `runs list|show|follow|stop|resume|export`: work that outlives the terminal."""

import argparse
import time
from typing import TYPE_CHECKING

from rlhfv.commands.chat import find_voice
from rlhfv.commands.terminal import open_runs, open_services, progress, show, show_json, tell
from rlhfv.corrections.pairs import load_pairs, pairs_file
from rlhfv.ddpo.config import TrainingConfig, describe_fields
from rlhfv.runs.state import ALIVE
from rlhfv.runs.supervisor import Supervisor

if TYPE_CHECKING:
    from rlhfv.runs.local import LocalRuns, Run

POLL_SECONDS = 0.3


def train(arguments: argparse.Namespace) -> int:
    services, actor = open_services(arguments)
    changes = {one["name"]: getattr(arguments, one["name"]) for one in training_fields()}
    config = TrainingConfig.from_dict(
        {"recipe": arguments.recipe, **{name: value for name, value in changes.items() if value is not None}}
    )
    if arguments.data is None:
        run_id = services.training.start(actor, config, arguments.title)
    else:
        pairs = load_pairs(arguments.data)
        images = pairs_file(arguments.data).parent / "images"
        run_id = services.training.start_with(actor, pairs, config, images.joinpath, arguments.title)
    return _started(arguments, run_id)


def evaluate(arguments: argparse.Namespace) -> int:
    services, actor = open_services(arguments)
    offered = services.host.voices(actor)
    voices = [find_voice(offered, voice) for voice in arguments.voice] or [voice.id for voice in offered if voice.id]
    return _started(arguments, services.evaluation.start(actor, voices, arguments.scenes, arguments.title))


def _started(arguments: argparse.Namespace, run_id: str) -> int:
    runs = open_runs(arguments)
    if arguments.detach:
        show_json({"run": run_id}) if arguments.json else show(run_id)
        return 0
    tell(f"Run {run_id}. It goes on without this terminal; `python -m rlhfv runs stop {run_id}` ends it.")
    code = follow(runs, run_id, as_json=False)
    run, folder = runs.get(run_id), runs.open(run_id)
    results = folder.read_results()
    if arguments.json:
        show_json({**run.to_dict(), "results": results})
    elif code == 0 and run.kind == "evaluation" and results:
        from rlhfv.evaluation.report import render_table

        show(render_table(results))
    elif code == 0 and run.has_adapter:
        show(str(folder.adapter))
    return code


def training_fields() -> list[dict]:
    """The settings that are flags of `train`; recipe and source are not settings of their own."""
    return [one for one in describe_fields() if one["name"] not in ("recipe", "source")]


def list_runs(arguments: argparse.Namespace) -> None:
    runs = open_runs(arguments).list()
    if arguments.json:
        return show_json([run.to_dict() for run in runs])
    for run in runs:
        show(f"{run.id}  {run.kind:10}  {run.state:8}  {run.progress:4.0%}  {run.title}")
    tell(f"{len(runs)} runs")


def show_run(arguments: argparse.Namespace) -> None:
    runs = open_runs(arguments)
    run, results = runs.get(arguments.id), runs.open(arguments.id).read_results()
    if arguments.json:
        return show_json({**run.to_dict(), "results": results})
    show(f"{run.title}  ({run.kind}, {run.state}, {run.progress:.0%})")
    show(*(f"  {name}: {value}" for name, value in run.config.get(run.kind, {}).items()))
    show(*(f"  | {line}" for line in run.lines))
    if run.error:
        show(f"Error: {run.error}")


def follow_run(arguments: argparse.Namespace) -> int:
    return follow(open_runs(arguments), arguments.id, arguments.json)


def stop(arguments: argparse.Namespace) -> None:
    _tell_state(arguments, open_runs(arguments).stop(arguments.id))


def resume(arguments: argparse.Namespace) -> int:
    runs = open_runs(arguments)
    _tell_state(arguments, runs.resume(arguments.id))
    return 0 if arguments.detach else follow(runs, arguments.id, as_json=False)


def export(arguments: argparse.Namespace) -> None:
    folder = open_runs(arguments).export(arguments.id, arguments.folder, arguments.merge)
    show_json({"folder": str(folder)}) if arguments.json else show(str(folder))


def _tell_state(arguments: argparse.Namespace, run: "Run") -> None:
    show_json(run.to_dict()) if arguments.json else tell(f"{run.title}: {run.state}")


def follow(runs: "LocalRuns", run_id: str, as_json: bool) -> int:
    """Shows a run until it ends: a bar and its warnings, or its events as JSON lines. Ctrl-C leaves it working."""
    run, folder, offset = runs.get(run_id), runs.open(run_id), 0
    supervisor = Supervisor(runs).start()  # nobody else may be there to start what waits
    try:
        with progress(run.title, None, "steps") as bar:
            while True:
                run = runs.get(run_id)
                events, offset = folder.read_events(offset)
                for event in events:
                    _show_event(event, bar, as_json)
                if run.state not in (*ALIVE, "queued"):
                    break
                state = f"{run.state}, place {run.place} in the queue" if run.place else run.state
                bar.set_postfix_str(state, refresh=state not in (bar.postfix or ""))
                time.sleep(POLL_SECONDS)
    finally:
        supervisor.close()
    tell(f"{run.title}: {run.state}", *([run.error] if run.error else []))
    return 1 if run.state == "failed" else 0


def _show_event(event: dict, bar, as_json: bool) -> None:
    if as_json:
        show_json(event)
    if event["kind"] == "step" and event.get("total_steps"):
        bar.total = event["total_steps"]
        bar.update_to(event.get("step") or 0)
    elif event["kind"] in ("warn", "skip", "log"):
        bar.clear()
        said = [str(event[part]) for part in ("pair", "text", "reason", "what", "why", "fix") if event.get(part)]
        tell(f"{event['kind']}: {' '.join(said)}")
