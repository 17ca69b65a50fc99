"""The Train tab: what a run would do, its start, its course, and whether the corrections now hold."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import gradio as gr

from rlhfv.ddpo.config import TrainingConfig
from rlhfv.services import Actor, Services
from rlhfv.services.memory import ASK, MemoryShort
from rlhfv.studio import runs_view, train_view
from rlhfv.studio.chat_view import alert
from rlhfv.studio.curves import PLOTS, SHADES, Records, colour_map, frame
from rlhfv.studio.downloads import make_zip, size
from rlhfv.studio.events import MODEL, explain, private, script
from rlhfv.studio.settings_form import build_form
from rlhfv.studio.stops import Stops
from rlhfv.studio.view import button, h, progress, view
from rlhfv.studio.visitor import actor

ORACLE_PAIRS = 200


@dataclass(frozen=True)
class TrainTab:
    """`heading` sends `edit` with a run's id ("chat with it"); `show_form(who)` completes the form of a page that
    loads, `refresh(who, *kept)` shows pairs and runs as they are now.
    """

    heading: gr.HTML
    kept: tuple
    outputs: tuple
    show_form: Callable[[Actor], dict]
    refresh: Callable[..., dict]


def build(services: Services) -> TrainTab:
    training = services.training
    records, stops = Records(), Stops()

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
            with gr.Row(elem_classes="tight start-row"):
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
                    [],
                    multiselect=True,
                    max_choices=len(SHADES) - 1,
                    label="Compare with",
                    elem_id="compare-runs",
                    min_width=200,
                )
                legend = view(elem_id="compare-legend")
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
    chosen, seen, confirming, parent, ended = (gr.State(start) for start in ("", None, "", "", ""))
    timer = gr.Timer(1.5, active=False)

    run_outputs = (
        *(listing, detail, heading, warnings, compare, legend, *plots),
        *(after, reask, export, log, chosen, seen, timer, ended),
    )
    outputs = (*run_outputs, pairs, command, source, message)
    described = (parent, title, *form.inputs)

    def show_runs(who: Actor, run_id: str, compared=(), sure: str = "", before=None, only_news: bool = False):
        """The list and one run. With `only_news` it skips when nothing changed since `before`.

        Where the lines get other names than `before`, their colours follow at the next call, without `before`: Gradio
        draws a plot anew when its colours change, and takes up only names that are in its value by then.
        """
        runs = training.runs(who)
        by_id = {run.id: run for run in runs}
        run = by_id.get(run_id) or next(
            (each for each in runs if each.state in runs_view.OPEN), runs[0] if runs else None
        )
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
        steps = {_label(by_id[each], [by_id[other] for other in shown]): shown[each].steps for each in shown}
        titles = list(steps)
        signature = {
            "runs": [(each.id, each.state, each.step, each.place) for each in runs],
            "versions": [record.version for record in shown.values()],
            "run": run.id,
            "lines": titles if compared else [],
            "log": list(run.lines[-1:]),
        }
        if only_news and signature == before:
            return gr.skip()
        renamed = before is not None and before["lines"] != signature["lines"]
        drawn = {}
        for plot, (_, _, lines) in zip(plots, PLOTS, strict=True):
            colours = {"color_map": colour_map(titles, lines), "colors_in_legend": [] if compared else None}
            drawn[plot] = gr.LinePlot(value=frame(steps, lines), **(colours if before is None else {}))
        others = [(_label(each, runs), each.id) for each in runs if each.id != run.id]
        same_choice = before is not None and (before["runs"], before["run"]) == (signature["runs"], run.id)
        was = {each[0]: each[1] for each in before["runs"]}.get(run.id, "") if before else ""
        return {
            **drawn,
            legend: train_view.legend(titles),
            listing: runs_view.listing(runs, run.id, *EMPTY),
            detail: gr.Column(visible=True),
            heading: runs_view.heading(run, train_view.acts(run, sure == run.id), "Step"),
            warnings: runs_view.notes(shown[run.id].notes),
            compare: gr.skip() if same_choice else gr.Dropdown(others, value=compared or None, visible=bool(others)),
            after: gr.Row(visible=run.state == "done" and (run.has_adapter or run.has_model)),
            reask: gr.Button(visible=run.has_adapter),
            export: gr.Button("Export the model" if run.has_model else "Export the adapter"),
            log: runs_view.log(training.log(who, run.id)),
            chosen: run.id,
            seen: None if renamed else signature,
            timer: gr.Timer(active=renamed or any(each.state in runs_view.OPEN for each in runs)),
            ended: run.id if run.state == "done" and was in runs_view.OPEN else gr.skip(),
        }

    def redraw(who: Actor, run_id: str, compared=(), before=None) -> Iterator[dict]:
        """`show_runs`, a second time where the lines get other names."""
        first = show_runs(who, run_id, compared, before=before)
        yield first
        if first[chosen] and first[seen] is None:
            second = show_runs(who, run_id, compared)
            yield {part: second[part] for part in (*plots, seen, timer)}

    def refresh(who: Actor, run_id: str = "", compared=(), before=None) -> dict:
        return {
            **show_runs(who, run_id, compared, before=before),
            pairs: train_view.counts(training.counts(who)),
            message: [],
        }

    def show_form(who: Actor) -> dict:
        config = next(iter(training.recipes().values()))
        return {command: train_view.command(training.command(who, config)), source: _source(config)}

    def tick(run_id, compared, before, sure, request: gr.Request):
        services.backends.refresh_soon(actor(request), run_id)
        return show_runs(actor(request), run_id, compared, sure, before, only_news=True)

    def open_run(event: gr.EventData, before, request: gr.Request):
        for update in redraw(actor(request), event.ref, before=before):
            yield {**update, confirming: "", asked: [], download: gr.DownloadButton(visible=False), message: []}

    def compare_with(run_id, compared, before, request: gr.Request):
        yield from redraw(actor(request), run_id, compared, before)

    def begin(who: Actor, go: Callable[[], str], again: str, before, done: dict) -> Iterator[dict]:
        """Starts or resumes a run with `go`, which returns its id. Where memory is short the page asks, and the answer
        names `again`, the run to resume or none."""
        try:
            run_id = go()
        except MemoryShort as short:
            yield {message: runs_view.ask_for_room(short, again)}
        except Exception as error:
            yield {message: alert(*explain(error))}
        else:
            for update in redraw(who, run_id, before=before):
                yield {**update, confirming: "", message: [], asked: [], **done}

    def start_with(who: Actor, room: str, before, copy_of: str, name: str, *values) -> Iterator[dict]:
        def go() -> str:
            config, given = form.read(*values), (name or "").strip()
            if copy_of:
                return training.duplicate(who, copy_of, config, given, room).id
            return training.start(who, config, given, room)

        yield {message: [progress(None, "Freezing pairs and pictures into a run …")]}
        yield from begin(who, go, "", before, {parent: "", copied: [], title: ""})

    def resume(who: Actor, run_id: str, room: str, before) -> Iterator[dict]:
        yield {message: [progress(None, "Reading the run …")]}

        def go() -> str:
            if training.run(who, run_id).remote:
                return services.backends.resume(who, run_id).id
            return training.resume(who, run_id, room).id

        yield from begin(who, go, run_id, before, {})

    def start_run(before, copy_of, name, request: gr.Request, *values):
        yield from start_with(actor(request), ASK, before, copy_of, name, *values)

    def answer_room(event: gr.EventData, before, copy_of, name, request: gr.Request, *values):
        who = actor(request)
        if event.act == "cancel":
            yield {message: []}
        elif event.ref:
            yield from resume(who, event.ref, event.act, before)
        else:
            yield from start_with(who, event.act, before, copy_of, name, *values)

    def act(event: gr.EventData, compared, before, request: gr.Request):
        who, run_id = actor(request), event.ref
        sure, note, extra = "", [], {}
        if event.act == "resume":
            yield from resume(who, run_id, ASK, before)
            return
        try:
            if event.act == "ask-delete":
                sure = run_id
            elif event.act == "delete":
                training.delete(who, run_id)
                records.forget(run_id)
                note = [h("p.done", "The run is deleted.", role="status")]
            elif event.act == "stop":
                services.backends.stop(who, run_id)
            elif event.act == "duplicate":
                run = training.run(who, run_id)
                config = TrainingConfig.from_dict(run.config["training"])
                extra = {
                    **form.fill(config),
                    parent: run_id,
                    copied: train_view.copied(run_id, run.title),
                    source: _source(config),
                    command: train_view.command(training.command(who, config, copy_of=run_id)),
                    checked: [],
                }
        except Exception as error:
            note = alert(*explain(error))
        yield {**show_runs(who, run_id, compared, sure, before), confirming: sure, message: note, **extra}

    def forget_copy(request: gr.Request, name, *values):
        return {parent: "", copied: [], **describe(request, "", name, *values)}

    def choose_recipe(request: gr.Request, copy_of, name, recipe: str):
        config = training.recipes()[recipe]
        return {
            **form.fill(config),
            source: _source(config),
            command: train_view.command(training.command(actor(request), config, name.strip(), copy_of)),
            checked: [],
        }

    def describe(request: gr.Request, copy_of, name, *values):
        try:
            text = training.command(actor(request), form.read(*values), name.strip(), copy_of)
        except Exception as error:
            return {command: alert(*explain(error)), checked: []}
        return {command: train_view.command(text), checked: []}

    def check_run(request: gr.Request, copy_of, *values):
        who = actor(request)
        yield {checked: [progress(None, "Checking every pair …")]}
        try:
            yield {checked: train_view.check(training.check(who, form.read(*values), copy_of))}
        except Exception as error:
            yield {checked: alert(*explain(error))}

    def add_oracle(count, request: gr.Request):
        who, made = actor(request), 0
        stop = stops.add(who.visitor)
        try:
            for made, total in training.add_oracle_pairs(who, int(count or 0), stop):
                text = f"{made} of {total} oracle pairs" if made else "Loading the model and drawing scenes …"
                yield {oracle_status: [progress(made / total if made else None, text), STOP]}
        except Exception as error:
            yield {oracle_status: alert(*explain(error)), pairs: train_view.counts(training.counts(who))}
            return
        finally:
            stops.end(who.visitor, stop)
        yield {
            oracle_status: [h("p.done", f"{made} oracle pairs added.", role="status")],
            pairs: train_view.counts(training.counts(who)),
        }

    def ask_again(run_id, request: gr.Request):
        if not run_id:  # the state's first value counts as a change
            yield gr.skip()
            return
        who, results = actor(request), []
        stop = stops.add(who.visitor)
        yield {asked: [progress(None, "Asking again …")]}
        try:
            for results, total in training.reask(who, run_id, stop):
                yield {asked: train_view.reasked(results, total)}
            yield {asked: train_view.reasked(results)}
        except Exception as error:
            yield {asked: [*train_view.reasked(results), *alert(*explain(error))]}
        finally:
            stops.end(who.visitor, stop)

    def stop_all(request: gr.Request) -> None:
        stops.stop(actor(request).visitor)

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

    kept = (chosen, compare, seen)
    began = [*run_outputs, confirming, message, asked, parent, copied, title]
    private(timer.tick, tick, [*kept, confirming], run_outputs, concurrency_limit=None, concurrency_id=None)
    opened = [*run_outputs, confirming, asked, download, message]
    private(listing.select, open_run, seen, opened, trigger_mode="multiple")
    private(heading.select, act, [compare, seen], [*began, *form.inputs, source, command, checked])
    private(compare.input, compare_with, kept, run_outputs)
    private(copied.select, forget_copy, described[1:], [parent, copied, command, checked])
    private(form.recipe.input, choose_recipe, described[:3], [*form.inputs, source, command, checked])
    for event in (title.change, *(part.input for part in form.inputs[1:])):
        private(event, describe, described, [command, checked], trigger_mode="always_last")
    private(check.click, check_run, [parent, *form.inputs], checked)
    for event, function in ((start.click, start_run), (message.select, answer_room)):
        script(private(event, function, [seen, *described], began).then, SHOW_RUN)
    private(oracle.click, add_oracle, wanted, [oracle_status, pairs], **MODEL)
    for event, run_id in ((reask.click, chosen), (ended.change, ended)):
        private(event, ask_again, run_id, asked, **MODEL)
    for part in (oracle_status, asked):
        private(part.select, stop_all, queue=False)
    private(export.click, export_adapter, chosen, [download, message], concurrency_id="files", concurrency_limit=2)

    return TrainTab(heading, kept, outputs, show_form, refresh)


SHOW_RUN = """() => {
  const message = document.getElementById('train-message');
  message?.parentElement.scrollIntoView({ block: 'start' });
  message?.querySelector('.act.primary')?.focus({ preventScroll: true });
}"""
STOP = button("Stop", "stop", kind="quiet")
EMPTY = (
    "No training run yet.",
    "Correct some answers, or add oracle pairs, then start one on the left. It goes on when you close the page.",
)


def _label(run, runs) -> str:
    """The run's title, with its id where another run has the same title."""
    return run.title if sum(other.title == run.title for other in runs) == 1 else f"{run.title} ({run.id[-4:]})"


def _source(config):
    return [h("p.hint", config.source)]
