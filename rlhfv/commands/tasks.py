"""`tasks add|list|next|status|settings` and `answer`: the shared queue."""

import argparse
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from rlhfv.commands.chat import find_voice, read_sampling
from rlhfv.commands.terminal import count, one_line, open_services, progress, read_token, show, show_json, tell


def add(arguments: argparse.Namespace) -> int:
    services, actor = open_services(arguments)
    asked = tuple(arguments.question)
    if arguments.hub:
        token = read_token(arguments)
        came = services.queue.add_dataset(actor, arguments.path, asked, arguments.batch, arguments.limit, token)
    else:
        came = services.queue.add_files(actor, Path(arguments.path), asked, arguments.batch)
    if arguments.json:
        show_json(asdict(came))
    else:
        for problem in came.problems:
            tell(str(problem))
        for duplicate in came.duplicates:
            known = f"task {duplicate.task_id}" if duplicate.task_id else f"pair {duplicate.pair_id}"
            tell(f"Row {duplicate.row} is here already, as {known}.")
        here, left_out = len(came.duplicates), count(len(came.problems), "row")
        tell(f"{count(len(came.added), 'task')} added, {here} already here, {left_out} left out")
    return 0 if came.added or came.duplicates or not came.problems else 2


def answer(arguments: argparse.Namespace) -> int:
    services, actor = open_services(arguments)
    voice = find_voice(services.host.voices(actor), arguments.voice) if arguments.voice else ""
    sampling = read_sampling(services, arguments)
    with progress("answering", None, "tasks") as bar:
        for state in services.answering.write(actor, voice, sampling, arguments.batch_size):
            bar.total = state.total
            bar.update_to(state.done)
    for failure in state.failures:
        tell(f"Task {failure.task_id}: {failure.error}")
    if arguments.json:
        failed = [{"task": each.task_id, "error": str(each.error)} for each in state.failures]
        show_json({"waiting": state.total, "written": state.written, "failed": failed})
    else:
        tell(f"{count(state.written, 'answer')} written, {count(state.total - state.done, 'task')} left")
    return 1 if state.failures else 0


def list_tasks(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    due = "" if arguments.due == "nothing" else arguments.due
    tasks = services.queue.tasks(actor, due, arguments.offset, arguments.limit)
    if arguments.json:
        return show_json([asdict(task) for task in tasks])
    for task in tasks:
        show(f"{task.id}  {task.due or 'done':8}  {task.batch:12.12}  {one_line(task.prompt.question):.60}")
    tell(count(len(tasks), "task"))


def show_next(arguments: argparse.Namespace) -> None:
    from rlhfv.services.queue import Idle

    services, actor = open_services(arguments)
    item = services.queue.next_item(actor, arguments.after)
    if arguments.json:
        return show_json(asdict(item))
    if isinstance(item, Idle):
        return tell(item.sentence)
    show(f"answer    {item.answer_id}", f"question  {item.question}", f"says      {item.original}")
    if item.comment:
        show(f"{item.reviewer or 'the reviewer'} returned it: {item.comment}")
    if item.until:
        tell(f"Reserved until {datetime.fromtimestamp(item.until):%H:%M}.")


def status(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    status, gold = services.queue.status(actor), services.queue.gold_scores(actor)
    agreement = services.queue.agreement(actor)
    counts = status.counts
    if arguments.json:
        figures = {"done": counts.done, "agreement": asdict(agreement), "gold_scores": [asdict(each) for each in gold]}
        return show_json(asdict(status) | figures)
    show(
        f"tasks            {counts.total}",
        f"  done           {counts.done}",
        f"  to be judged   {counts.first}",
        f"  for a second   {counts.second}",
        f"  unanswered     {counts.unanswered}",
        f"  open now       {status.open_elsewhere}",
        f"gold items       {counts.gold}",
        *(f"pairs {state:10} {number}" for state, number in sorted(status.pairs.items())),
    )
    if agreement.items:
        show(
            f"agreement on {agreement.items} answers: span F1 {agreement.exact_f1:.2f} exact, "
            f"{agreement.overlapping_f1:.2f} overlapping, kappa {agreement.kappa:.2f}"
        )
    for each in gold:
        show(
            f"gold {each.annotator or 'nobody named':.40}: span F1 {each.agreement.exact_f1:.2f} exact, "
            f"{each.agreement.overlapping_f1:.2f} overlapping, {each.agreement.items} items"
        )


def settings(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    given = {name: getattr(arguments, name) for name in ("second_share", "gold_share", "reserve_minutes")}
    if arguments.guideline is not None:
        given["guideline"] = arguments.guideline.read_text(encoding="utf-8", errors="replace")
    changes = {name: value for name, value in given.items() if value is not None}
    kept = services.queue.change_settings(actor, **changes) if changes else services.queue.settings(actor)
    if arguments.json:
        return show_json(asdict(kept))
    show(*(f"{name.replace('_', ' '):16} {value}" for name, value in asdict(kept).items()))
