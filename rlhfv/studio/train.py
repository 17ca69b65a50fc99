"""The Train tab: what a run would do, its start, its course, and whether the corrections now hold."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import gradio as gr

from rlhfv.ddpo.config import TrainingConfig
from rlhfv.services import Actor, Services
from rlhfv.studio import runs_view, train_view
from rlhfv.studio.chat_view import alert
from rlhfv.studio.curves import PLOTS, Records, frame
from rlhfv.studio.downloads import make_zip, size
from rlhfv.studio.events import MODEL, explain, private, script
from rlhfv.studio.settings_form import build_form
from rlhfv.studio.view import h, progress, view
from rlhfv.studio.visitor import actor

ORACLE_PAIRS = 200
COLOURS = {
    "train": "#6366f1",
    "held out": "#f59e0b",
    "corrected": "#059669",
    "original": "#e11d48",
}


@dataclass(frozen=True)
class TrainTab:
    """`heading` sends `edit` with a run's id ("chat with it"); `refresh(who, run_id)` fills the tab."""

    heading: gr.HTML
    chosen: gr.State
    outputs: tuple
    refresh: Callable[..., dict]


def build(services: Services) -> TrainTab:
    training = services.training
    records = Records()

    with gr.Row(elem_classes="workbench"):
        with gr.Column(scale=5, min_width=300, elem_classes="side", elem_id="train-form"):
            pairs = view(elem_id="train-counts")
            with gr.Row(elem_classes="tight", visible=training.can_add_oracle_pairs()):
                wanted = gr.Number(
                    ORACLE_PAIRS,
                    precision=0,
                    minimum=1,
                    maximum=5000,
                    container=False,
                    min_width=80,
                    scale=1,
                    label="Oracle pairs",
                    elem_id="oracle-count",
                )
                oracle = gr.Button("Add oracle pairs", size="sm", scale=3, elem_id="add-oracle")
            oracle_status = view(
                h(
                    "p.hint",
                    "The oracle knows what is in each drawn scene and corrects the model's own answers. "
                    "Its pairs say “oracle” everywhere.",
                )
                if training.can_add_oracle_pairs()
                else "",
                elem_id="oracle-status",
            )
            copied = view(elem_id="train-copied")
            title = gr.Textbox(label="Name of the run", placeholder="Optional", max_length=120, elem_id="run-title")
            form = build_form()
            source = view(elem_id="recipe-source")
            unload = gr.Checkbox(
                False,
                label="Unload the chat model while it trains",
                info="Frees its memory; the next question loads it again.",
                elem_id="unload-chat",
            )
            with gr.Row(elem_classes="tight"):
                check = gr.Button("Check", size="sm", elem_id="check-run")
                start = gr.Button("Start training", variant="primary", size="sm", elem_id="start-run")
            checked = view(elem_id="train-check")
            command = view(elem_id="train-command")
        with gr.Column(scale=9, min_width=300):
            message = view(elem_id="train-message")
            listing = view(elem_id="train-runs", label="Training runs")
            with gr.Column(visible=False, elem_id="run") as detail:
                heading = view(elem_id="run-heading")
                warnings = view(elem_id="run-warnings")
                compare = gr.Dropdown(
                    [], multiselect=True, label="Compare with", elem_id="compare-runs", min_width=200
                )
                with gr.Row(elem_classes="plots"):
                    plots = tuple(
                        gr.LinePlot(
                            None,
                            x="step",
                            y="value",
                            color="line",
                            title=name,
                            y_title=axis,
                            x_title="step",
                            color_title=" ",
                            color_map=COLOURS,
                            height=220,
                            min_width=280,
                            tooltip="axis",
                            elem_id=f"plot-{number}",
                            buttons=["fullscreen", "export"],
                        )
                        for number, (name, axis, _) in enumerate(PLOTS)
                    )
                with gr.Row(elem_classes="tight", visible=False) as after:
                    reask = gr.Button("Ask my corrected questions again", size="sm", elem_id="reask")
                    export = gr.Button("Export the adapter", size="sm", elem_id="export-adapter")
                    download = gr.DownloadButton(
                        "Download", size="sm", variant="primary", visible=False, elem_id="download-adapter"
                    )
                asked = view(elem_id="reasked")
                log = view(elem_id="run-log")
    chosen, seen, confirming, parent = gr.State(""), gr.State(None), gr.State(""), gr.State("")
    timer = gr.Timer(1.5, active=False)

    run_outputs = (listing, detail, heading, warnings, compare, *plots, after, log, chosen, seen, timer)
    outputs = (*run_outputs, pairs, command, source, message)

    def show_runs(who: Actor, run_id: str, compared=(), sure: str = "", before=None, new_choice: bool = False):
        """The list and one run. Skips when nothing changed since `before`."""
        runs = training.runs(who)
        by_id = {run.id: run for run in runs}
        run = by_id.get(run_id) or next(
            (each for each in runs if each.state in runs_view.OPEN), runs[0] if runs else None
        )
        busy = any(each.state in runs_view.OPEN for each in runs)
        if run is None:
            return {
                listing: runs_view.listing([], "", *EMPTY),
                detail: gr.Column(visible=False),
                chosen: "",
                seen: None,
                timer: gr.Timer(active=False),
            }
        compared = [other for other in compared or () if other in by_id and other != run.id]
        shown = {each: records.get(each, partial(training.events, who)) for each in (run.id, *compared)}
        signature = [
            [(each.id, each.state, each.step, each.place) for each in runs],
            [record.version for record in shown.values()],
            run.id,
            list(run.lines[-1:]),
        ]
        if signature == before:
            return gr.skip()
        steps = {_label(by_id[each], by_id.values()): record.steps for each, record in shown.items()}
        others = [(_label(each, runs), each.id) for each in runs if each.id != run.id]
        done = run.state == "done" and run.has_adapter
        return {
            listing: runs_view.listing(runs, run.id, *EMPTY),
            detail: gr.Column(visible=True),
            heading: runs_view.heading(run, train_view.acts(run, sure == run.id), "Step"),
            warnings: runs_view.notes(shown[run.id].notes),
            compare: gr.Dropdown(others, value=compared or None, visible=bool(others))
            if new_choice or before is None or before[0] != signature[0]
            else gr.skip(),
            **{plot: frame(steps, lines) for plot, (_, _, lines) in zip(plots, PLOTS, strict=True)},
            after: gr.Row(visible=done),
            log: runs_view.log(training.log(who, run.id)),
            chosen: run.id,
            seen: signature,
            timer: gr.Timer(active=busy),
        }

    def refresh(who: Actor, run_id: str = "", config=None, note=None) -> dict:
        config = config or next(iter(training.recipes().values()))
        return {
            **show_runs(who, run_id, new_choice=True),
            pairs: train_view.counts(training.counts(who)),
            command: train_view.command(training.command(config)),
            source: _source(config),
            message: note or [],
        }

    def tick(run_id, before, compared, sure, request: gr.Request):
        return show_runs(actor(request), run_id, compared, sure, before)

    def open_run(event: gr.EventData, request: gr.Request):
        return {
            **show_runs(actor(request), event.ref, new_choice=True),
            confirming: "",
            asked: [],
            download: gr.DownloadButton(visible=False),
            message: [],
        }

    def compare_with(run_id, compared, request: gr.Request):
        # Other lines have other names, and Gradio's plot takes up new names only when it is drawn anew.
        yield dict.fromkeys(plots)
        yield show_runs(actor(request), run_id, compared)

    def act(event: gr.EventData, compared, request: gr.Request):
        who, run_id = actor(request), event.ref
        sure, note, extra = "", [], {}
        try:
            if event.act == "ask-delete":
                sure = run_id
            elif event.act == "delete":
                training.delete(who, run_id)
                records.forget(run_id)
                note = [h("p.done", "The run is deleted.", role="status")]
            elif event.act == "stop":
                training.stop(who, run_id)
            elif event.act == "resume":
                training.resume(who, run_id)
            elif event.act == "duplicate":
                run = training.run(who, run_id)
                config = TrainingConfig.from_dict(run.config["training"])
                extra = {
                    **form.fill(config),
                    parent: run_id,
                    copied: train_view.copied(run_id, run.title),
                    source: _source(config),
                }
        except Exception as error:
            note = alert(*explain(error))
        return {**show_runs(who, run_id, compared, sure), confirming: sure, message: note, **extra}

    def forget_copy():
        return {parent: "", copied: []}

    def choose_recipe(name: str):
        config = training.recipes()[name]
        return {
            **form.fill(config),
            source: _source(config),
            command: train_view.command(training.command(config)),
            checked: [],
        }

    def describe(*values):
        try:
            return {command: train_view.command(training.command(form.read(*values))), checked: []}
        except Exception as error:
            return {command: alert(*explain(error)), checked: []}

    def check_run(request: gr.Request, *values):
        who = actor(request)
        yield {checked: [progress(None, "Checking every pair …")]}
        try:
            config = form.read(*values)
            yield {
                checked: train_view.check(training.check(who, config)),
                command: train_view.command(training.command(config)),
            }
        except Exception as error:
            yield {checked: alert(*explain(error))}

    def start_run(request: gr.Request, copy_of, name, frees, *values):
        who = actor(request)
        yield {message: [progress(None, "Freezing pairs and pictures into a run …")]}
        try:
            config = form.read(*values)
            run_id = (
                training.duplicate(who, copy_of, config).id
                if copy_of
                else training.start(who, config, name.strip(), bool(frees))
            )
        except Exception as error:
            yield {message: alert(*explain(error))}
            return
        yield {
            **show_runs(who, run_id, new_choice=True),
            message: [],
            parent: "",
            copied: [],
            title: "",
            asked: [],
            confirming: "",
        }

    def add_oracle(count, request: gr.Request):
        who = actor(request)
        try:
            for made, total in training.add_oracle_pairs(who, int(count or 0)):
                text = f"{made} of {total} oracle pairs" if made else "Loading the model and drawing scenes …"
                yield {oracle_status: [progress(made / total if made else None, text)]}
        except Exception as error:
            yield {oracle_status: alert(*explain(error))}
            return
        yield {
            oracle_status: [h("p.done", f"{made} oracle pairs added.", role="status")],
            pairs: train_view.counts(training.counts(who)),
        }

    def ask_again(run_id, request: gr.Request):
        who = actor(request)
        yield {asked: [progress(None, "Asking again …")]}
        try:
            results = []
            for results in training.reask(who, run_id):
                yield {asked: train_view.reasked(results, running=True)}
            yield {asked: train_view.reasked(results, running=False)}
        except Exception as error:
            yield {asked: alert(*explain(error))}

    def export_adapter(run_id, request: gr.Request):
        who = actor(request)
        yield {download: gr.DownloadButton(visible=False), message: [progress(None, "Packing the adapter …")]}
        try:
            path = make_zip(f"{run_id}-adapter", lambda folder: training.export(who, run_id, folder / "adapter"))
        except Exception as error:
            yield {message: alert(*explain(error))}
            return
        yield {
            message: [],
            download: gr.DownloadButton(f"Download {path.name} ({size(path)})", value=str(path), visible=True),
        }

    private(
        timer.tick, tick, [chosen, seen, compare, confirming], run_outputs, concurrency_limit=None, concurrency_id=None
    )
    private(listing.select, open_run, None, [*run_outputs, confirming, asked, download, message])
    private(heading.select, act, compare, [*run_outputs, confirming, message, *form.inputs, parent, copied, source])
    private(compare.input, compare_with, [chosen, compare], run_outputs)
    private(copied.select, forget_copy, None, [parent, copied])
    private(form.recipe.input, choose_recipe, form.recipe, [*form.inputs, source, command, checked])
    for part in form.inputs[1:]:
        private(part.input, describe, form.inputs, [command, checked], trigger_mode="always_last")
    private(check.click, check_run, form.inputs, [checked, command])
    started = private(
        start.click,
        start_run,
        [parent, title, unload, *form.inputs],
        [*run_outputs, message, parent, copied, title, asked, confirming],
    )
    script(started.then, SHOW_RUN)
    private(oracle.click, add_oracle, wanted, [oracle_status, pairs], **MODEL)
    private(reask.click, ask_again, chosen, asked, **MODEL)
    private(export.click, export_adapter, chosen, [download, message], concurrency_id="files", concurrency_limit=2)

    return TrainTab(heading, chosen, outputs, refresh)


SHOW_RUN = "() => document.getElementById('train-message')?.parentElement.scrollIntoView({ block: 'start' })"
EMPTY = (
    "No training run yet.",
    "Correct some answers, or add oracle pairs, then start one on the left. It goes on when you close the page.",
)


def _label(run, runs) -> str:
    """The run's title, with its id where another run has the same title."""
    return run.title if sum(other.title == run.title for other in runs) == 1 else f"{run.title} ({run.id[-4:]})"


def _source(config):
    return [h("p.hint", config.source)]
