"""The Train tab: what a run would do, its start, its course, and whether the corrections now hold."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import gradio as gr

from rlhfv.ddpo.config import TrainingConfig
from rlhfv.services import Actor, Services
from rlhfv.services.memory import ANYWAY, ASK, UNLOAD, WAIT, MemoryShort
from rlhfv.studio import backends, backends_view, base_choice, runs_view, train_view
from rlhfv.studio.chat_view import alert
from rlhfv.studio.curves import PLOTS, SHADES, Records, build_plots, colour_map, frame
from rlhfv.studio.downloads import make_zip, size
from rlhfv.studio.events import HUB, MODEL, explain, private, script
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
            base, show_base = base_choice.build(services)
            form = build_form()
            read_form = base_choice.reader(services, form)
            source = view(elem_id="recipe-source")
            away = backends.build(services)
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
                    plots = build_plots()
                with gr.Row(elem_classes="tight", visible=False) as after:
                    reask = gr.Button("Ask my corrected questions again", size="sm", elem_id="reask")
                    export = gr.Button("Export the adapter", size="sm", elem_id="export-adapter")
                    download = gr.DownloadButton(
                        "Download", size="sm", variant="primary", visible=False, elem_id="download-adapter"
                    )
                asked = view(elem_id="reasked")
                log = view(elem_id="run-log")
    chosen, seen, confirming, parent, ended = (gr.State(start) for start in ("", None, "", "", ""))
    about = gr.State(())  # the form as it was when a question was asked
    timer = gr.Timer(1.5, active=False)

    run_outputs = (
        *(listing, detail, heading, warnings, compare, legend, *plots),
        *(after, reask, export, log, chosen, seen, timer, ended),
    )
    outputs = (*run_outputs, pairs, command, source, message, base, *away.outputs)
    described = (*away.inputs, parent, title, *form.inputs, base)

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
                listing: runs_view.listing([], "", *train_view.EMPTY),
                detail: gr.Column(visible=False),
                chosen: "",
                seen: None,
                timer: gr.Timer(active=False),
            }
        compared = [other for other in compared or () if other in by_id and other != run.id]
        shown = {each: records.get(each, partial(training.events, who)) for each in (run.id, *compared)}
        steps = {train_view.label(by_id[each], [by_id[other] for other in shown]): shown[each].steps for each in shown}
        titles = list(steps)
        elsewhere = away.note(who, run)
        signature = {
            "runs": [(each.id, each.state, each.step, each.place) for each in runs],
            "versions": [record.version for record in shown.values()],
            "run": run.id,
            "lines": titles if compared else [],
            "log": list(run.lines[-1:]),
            "elsewhere": elsewhere,
        }
        if only_news and signature == before:
            return gr.skip()
        renamed = before is not None and before["lines"] != signature["lines"]
        drawn = {}
        for plot, (_, _, lines) in zip(plots, PLOTS, strict=True):
            points, drawing = frame(steps, lines), {"colors_in_legend": [] if compared else None}
            drawing = {} if before else {**drawing, "color_map": colour_map(titles, lines)}
            drawn[plot] = gr.LinePlot(value=points, visible=bool(points["value"].count()), **drawing)
        others = [(train_view.label(each, runs), each.id) for each in runs if each.id != run.id]
        same_choice = before is not None and (before["runs"], before["run"]) == (signature["runs"], run.id)
        was = {each[0]: each[1] for each in before["runs"]}.get(run.id, "") if before else ""
        return {
            **drawn,
            legend: train_view.legend(titles),
            listing: runs_view.listing(runs, run.id, *train_view.EMPTY),
            detail: gr.Column(visible=True),
            heading: [
                *runs_view.heading(run, train_view.acts(run, sure == run.id), "Step", elsewhere),
                *train_view.outcome(run, training.folder(who, run.id)),
            ],
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

    def refresh(who: Actor, run_id: str = "", compared=(), before=None, where=backends.HERE, repo="") -> dict:
        return {
            **show_runs(who, run_id, compared, before=before),
            **away.show(who, where, repo),
            **show_base(who),
            pairs: train_view.counts(training.counts(who)),
            message: [],
        }

    def show_form(who: Actor) -> dict:
        config = next(iter(training.recipes().values()))
        return {command: train_view.command(training.command(who, config)), source: train_view.source(config)}

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
            config, given = read_form(who, *values), (name or "").strip()
            if copy_of:
                return training.duplicate(who, copy_of, config, given, room).id
            return training.start(who, config, given, room)

        yield {message: [progress(None, "Freezing pairs and pictures into a run …")]}
        yield from begin(who, go, "", before, {parent: "", copied: [], title: ""})

    def resume(who: Actor, run_id: str, room: str, before, place: tuple) -> Iterator[dict]:
        yield {message: [progress(None, "Reading the run …")]}

        def go() -> str:
            if training.run(who, run_id).remote:
                return services.backends.resume(who, run_id).id
            return training.resume(who, run_id, room).id

        try:
            run = training.run(who, run_id)
            offers = services.backends.offers(who, run.remote["repo"], run_id) if run.remote.get("reserved") else ()
            timeout = away.limits(*place)[0] or run.remote.get("timeout")
        except Exception as error:
            yield {message: alert(*explain(error))}
            return
        if offers:  # a job is paid for: its machine is asked for again
            asked = backends_view.ask_for_machine(tuple(offers), run.remote["repo"], timeout=timeout, run_id=run_id)
            yield {message: asked, about: place}
        else:
            yield from begin(who, go, run_id, before, {})

    def send_with(who: Actor, act: str, flavor: str, before, place, copy_of, name: str, *values) -> Iterator[dict]:
        """Sends a new run away, after the question whose answer is `act`; without one the question comes first."""
        where, repo, minutes, container = place
        yield {message: [progress(None, "Asking the Hub …" if not act else "Sending the run …")]}
        try:
            config = read_form(who, *values)
            asked = [] if act else away.question(who, where, repo, minutes, config, copy_of)
            if not asked:
                yield {message: [progress(None, "Sending the run …")]}
                to = away.place(repo, minutes, container, flavor, act.endswith(backends_view.WITH_BASE))
                run = services.backends.start(who, config, to, (name or "").strip(), copy_of)
        except Exception as error:
            yield {**show_runs(who, "", before=before), message: alert(*explain(error))}
            return
        if asked:
            yield {message: asked}
        else:
            yield from begin(who, lambda: run.id, "", before, {parent: "", copied: [], title: ""})

    def start_run(before, request: gr.Request, *given):
        who, place, (copy_of, name), values = actor(request), given[:4], given[4:6], given[6:]
        yield {about: (*place, copy_of, *values)}
        if place[0] == backends.HERE:
            yield from start_with(who, ASK, before, copy_of, name, *values)
        else:
            yield from send_with(who, "", "", before, place, copy_of, name, *values)

    def answer(event: gr.EventData, before, was, request: gr.Request, *given):
        """The answer to a question that stands in the message, for the form as it `was` when that was asked."""
        who, place, (copy_of, name), values = actor(request), given[:4], given[4:6], given[6:]
        act, ref = event.act, event.ref
        flavor, _, run_id = ref.partition(" ")
        if act == "cancel":
            yield {message: []}
        elif act in (UNLOAD, WAIT, ANYWAY) and ref:  # about a run, whatever the form says
            yield from resume(who, ref, act, before, place)
        elif tuple(was) != (place if run_id else (*place, copy_of, *values)):
            yield {message: alert(*backends_view.CHANGED)}
        elif act.startswith("job") and run_id:
            yield {message: [progress(None, "Starting the job …")]}
            go = lambda: services.backends.resume(who, run_id, flavor, *away.limits(*place)).id  # noqa: E731
            yield from begin(who, go, run_id, before, {})
        elif act.startswith(("job", "send")):
            yield from send_with(who, act, flavor, before, place, copy_of, name, *values)
        else:
            yield from start_with(who, act, before, copy_of, name, *values)

    def act(event: gr.EventData, compared, before, where, repo, minutes, container, request: gr.Request):
        who, run_id = actor(request), event.ref
        sure, note, extra = "", [], {}
        if event.act == "resume":
            yield from resume(who, run_id, ASK, before, (where, repo, minutes, container))
            return
        try:
            if event.act == "ask-delete":
                sure = run_id
            elif event.act == "delete":
                told = f"The run is deleted.{runs_view.left_behind(training.run(who, run_id))}"
                training.delete(who, run_id)
                records.forget(run_id)
                note = [h("p.done", told, role="status")]
            elif event.act == "stop":
                services.backends.stop(who, run_id)
            elif event.act == "duplicate":
                run = training.run(who, run_id)
                config = TrainingConfig.from_dict(run.config["training"])
                extra = {
                    **form.fill(config),
                    parent: run_id,
                    copied: train_view.copied(run_id, run.title),
                    source: train_view.source(config),
                    command: tell_command(request, (where, repo, minutes, container), config, "", run_id),
                    checked: [],
                }
        except Exception as error:
            note = alert(*explain(error))
        yield {**show_runs(who, run_id, compared, sure, before), confirming: sure, message: note, **extra}

    def forget_copy(request: gr.Request, where, repo, minutes, container, _, *values):
        return {parent: "", copied: [], **describe(request, where, repo, minutes, container, "", *values)}

    def choose_recipe(request: gr.Request, where, repo, minutes, container, copy_of, name, recipe: str):
        config = training.recipes()[recipe]
        return {
            **form.fill(config),
            source: train_view.source(config),
            command: tell_command(request, (where, repo, minutes, container), config, (name or "").strip(), copy_of),
            checked: [],
        }

    def tell_command(request: gr.Request, place, config: TrainingConfig, *given: str):
        return train_view.command(training.command(actor(request), config, *given) + away.flags(*place))

    def describe(request: gr.Request, where, repo, minutes, container, copy_of, name, *values):
        try:
            place, config = (where, repo, minutes, container), read_form(actor(request), *values)
            told = tell_command(request, place, config, (name or "").strip(), copy_of)
        except Exception as error:
            return {command: alert(*explain(error)), checked: []}
        return {command: told, checked: []}

    def check_run(request: gr.Request, where, copy_of, *values):
        who, here = actor(request), where == backends.HERE
        yield {checked: [progress(None, "Checking every pair …")]}
        try:
            yield {checked: train_view.check(training.check(who, read_form(who, *values), copy_of, here))}
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

    def name_start(where: str):
        return gr.Button(backends.START[where])

    kept = (chosen, compare, seen)
    began = [*run_outputs, confirming, message, about, asked, parent, copied, title]
    private(timer.tick, tick, [*kept, confirming], run_outputs, concurrency_limit=None, concurrency_id=None)
    opened = [*run_outputs, confirming, asked, download, message]
    private(listing.select, open_run, seen, opened, trigger_mode="multiple")
    acted = [*began, *form.inputs, source, command, checked]
    private(heading.select, act, [compare, seen, *away.inputs], acted, **HUB)
    private(compare.input, compare_with, kept, run_outputs)
    private(copied.select, forget_copy, described, [parent, copied, command, checked])
    private(form.recipe.input, choose_recipe, described[:7], [*form.inputs, source, command, checked])
    changed = (*(part.change for part in (*away.inputs, title)), *(part.input for part in (*form.inputs[1:], base)))
    for event in changed:
        private(event, describe, described, [command, checked], trigger_mode="always_last")
    private(check.click, check_run, [away.inputs[0], parent, *form.inputs, base], checked)
    for event, function, before in ((start.click, start_run, [seen]), (message.select, answer, [seen, about])):
        script(private(event, function, [*before, *described], began, **HUB).then, SHOW_RUN)
    private(away.inputs[0].input, name_start, away.inputs[0], start, trigger_mode="always_last")
    private(oracle.click, add_oracle, wanted, [oracle_status, pairs], **MODEL)
    for event, run_id in ((reask.click, chosen), (ended.change, ended)):
        private(event, ask_again, run_id, asked, **MODEL)
    for part in (oracle_status, asked):
        private(part.select, stop_all, queue=False)
    private(export.click, export_adapter, chosen, [download, message], concurrency_id="files", concurrency_limit=2)

    return TrainTab(heading, (*kept, *away.inputs[:2]), outputs, show_form, refresh)


SHOW_RUN = """() => {
  const message = document.getElementById('train-message');
  message?.parentElement.scrollIntoView({ block: 'start' });
  message?.querySelector('.act.primary')?.focus({ preventScroll: true });
}"""
STOP = button("Stop", "stop", kind="quiet")
