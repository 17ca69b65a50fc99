"""The Pairs tab: every pair that was made, its history, and the ways in and out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from rlhfv.corrections.edits import KINDS
from rlhfv.corrections.pairs import PAIR_OUTCOMES
from rlhfv.services import Actor, Services
from rlhfv.studio import pairs_view as shown
from rlhfv.studio.chat_view import alert
from rlhfv.studio.downloads import make_zip, size
from rlhfv.studio.events import explain, private, script
from rlhfv.studio.jobs import Job
from rlhfv.studio.span_editor import CorrectionDocument, SpanEditor
from rlhfv.studio.view import Node, button, h, progress, view
from rlhfv.studio.view import pager as turn_pages
from rlhfv.studio.viewer import show, viewer
from rlhfv.studio.visitor import actor

PAGE = 20
# Where there is room for one column only, the pair stands below its list.
SHOW_PAIR = "() => { if (innerWidth < 900) document.getElementById('pair')?.scrollIntoView({ block: 'start' }); }"
ANY = "any"
DATASETS = "datasets"
EXPORTS = {
    "jsonl": "JSONL with pictures (this studio's own)",
    DATASETS: "🤗 Datasets (load_from_disk)",
    "trl": "TRL, vision preference",
    "llama-factory": "LLaMA-Factory, sharegpt preference",
    "rlhf-v": "RLHF-V, Parquet of 2024",
    "rlhf-v-2023": "RLHF-V, JSON of 2023",
    "rlaif-v": "RLAIF-V",
}


@dataclass(frozen=True)
class PairsTab:
    """`show(who, pair_id, *filters)` fills the tab, with `clear=True` its search fields too; `filters` are these
    fields, `chosen` the id of its pair; `heading` sends `edit` with the id of a pair to be reviewed.
    """

    heading: gr.HTML
    outputs: tuple
    chosen: gr.State
    filters: tuple
    show: Callable[..., dict]


def build(services: Services) -> PairsTab:
    corrections = services.corrections

    with gr.Row(elem_classes="tight filters"):
        text = gr.Textbox(
            label="Search",
            placeholder="Words of a question or an answer",
            min_width=220,
            scale=3,
            elem_id="pairs-search",
        )
        kind = gr.Dropdown(
            [(ANY, "")] + [(name, name) for name in KINDS], value="", label="Kind", min_width=110, elem_id="pairs-kind"
        )
        outcome = gr.Dropdown(
            [(ANY, "")] + [(name, name) for name in PAIR_OUTCOMES],
            value="",
            label="Outcome",
            min_width=110,
            elem_id="pairs-outcome",
        )
        annotator = gr.Dropdown([(ANY, "")], value="", label="Annotator", min_width=110, elem_id="pairs-annotator")
        model = gr.Dropdown([(ANY, "")], value="", label="Model", min_width=110, elem_id="pairs-model")
    status = view(elem_id="pairs-status")
    with gr.Row(elem_classes="workbench"):
        with gr.Column(scale=5, min_width=290, elem_classes="list"):
            listing = view(elem_id="pairs-list", label="Pairs")
            pager = view(elem_id="pairs-pager")
        with gr.Column(scale=8, min_width=300, visible=False, elem_id="pair") as detail:
            heading = view(elem_id="pair-heading")
            with gr.Row(elem_classes="pair-body"):
                with gr.Column(scale=4, min_width=220):
                    picture = viewer("pair-picture")
                with gr.Column(scale=7, min_width=280):
                    editor = SpanEditor(elem_id="pair-editor")
                    other = view(elem_id="pair-preferred")
            record = view(elem_id="pair-record")
    with gr.Accordion("Export and import", open=False, elem_id="pairs-files") as drawer:
        with gr.Row(elem_classes="tight"):
            format = gr.Dropdown(
                [*((title, name) for name, title in EXPORTS.items())],
                value="jsonl",
                label="Format",
                filterable=False,
                min_width=250,
                elem_id="export-format",
            )
            export = gr.Button("Export", size="sm", elem_id="export-pairs")
            download = gr.DownloadButton(
                "Download", size="sm", variant="primary", visible=False, elem_id="download-pairs"
            )
            upload = gr.UploadButton(
                "Import a file", size="sm", file_types=[".jsonl", ".json", ".parquet", ".zip"], elem_id="import-pairs"
            )
        left_behind = view(elem_id="export-losses")
        files = view(elem_id="pairs-files-status")
    chosen = gr.State("")
    offset, found = gr.State(0), gr.State(None)

    filters = (text, kind, outcome, annotator, model)
    outputs = (listing, pager, detail, heading, picture, editor, other, record, chosen, offset, found, status)

    def show_tab(who: Actor, pair_id: str, *searched, clear: bool = False) -> dict:
        """The whole tab, with the annotators and models that can be asked for now. The fields keep what is in them,
        which may be more by now, unless they are cleared.
        """
        known = corrections.filter_choices(who)
        people = [(ANY, ""), *((name, name) for name in known["annotators"] if name)]
        models = [(ANY, ""), *((shown.short(name), name) for name in known["models"] if name)]
        empty = {"value": ""} if clear else {}
        return {
            **refresh(who, pair_id, *searched),
            **(dict.fromkeys((text, kind, outcome), "") if clear else {}),
            annotator: gr.Dropdown(people, **empty),
            model: gr.Dropdown(models, **empty),
        }

    def find(who: Actor, words, of_kind, with_outcome, by, from_model, start: int):
        return corrections.find(
            who,
            text=words or "",
            kind=of_kind or None,
            annotator=by or None,
            model=from_model or None,
            outcome=with_outcome or None,
            offset=start,
            limit=PAGE,
        )

    def refresh(who: Actor, pair_id: str, *searched, start: int = 0, note: list[Node] | None = None) -> dict:
        """The page of the list from `start`, with one pair opened: the given one, or the first of the page."""
        page = find(who, *searched, start)
        if start and not page.pairs:
            start = max(0, (page.total - 1) // PAGE * PAGE)
            page = find(who, *searched, start)
        pair_id = pair_id or (page.pairs[0].id if page.pairs else "")
        return {
            listing: shown.listing(page.pairs, pair_id, any(searched)),
            pager: turn_pages(start, PAGE, page.total, "pairs", "‹ Newer", "Older ›"),
            offset: start,
            found: searched,
            status: note or [],
            **open_pair(who, pair_id),
        }

    def open_pair(who: Actor, pair_id: str) -> dict:
        if not pair_id:
            return {detail: gr.Column(visible=False), chosen: ""}
        history = corrections.history(who, pair_id)
        pair = next(revision.pair for revision in reversed(history) if revision.pair is not None)
        corrected = pair.outcome == "corrected"
        return {
            detail: gr.Column(visible=True),
            chosen: pair_id,
            heading: shown.heading(
                pair,
                history[-1].action == "deleted",
                services.reviewing.state(who, pair_id) if services.settings.team else "",
                services.settings.team and "review" in who.rights,
                "manage" in who.rights,
            ),
            picture: show(pair.prompt.all_images, pair.prompt.question),
            editor: SpanEditor.document(pair.rejected, "", pair.edits, readonly=True)
            if corrected
            else CorrectionDocument(readonly=True),
            other: [] if corrected else shown.preferred(pair),
            record: shown.record(pair, history, corrections.agreement(who, pair_id)),
        }

    def search(request: gr.Request, before, *searched):
        # The page itself clears the fields too, and has filled the list by then.
        return gr.skip() if before in (None, searched) else refresh(actor(request), "", *searched)

    def select(event: gr.EventData, request: gr.Request, start, *searched):
        return refresh(actor(request), event.ref, *searched, start=start)

    def turn(event: gr.EventData, request: gr.Request, *searched):
        return refresh(actor(request), "", *searched, start=int(event.ref))

    def act(event: gr.EventData, request: gr.Request, start, *searched):
        who = actor(request)
        pair_id, _, number = event.ref.partition(":")
        note = None
        if event.act == "delete":
            corrections.delete(who, pair_id)
            note = [
                h(
                    "p.done",
                    h("span", services.durable.told("The pair is deleted."), role="status"),
                    button("Undo", "undelete", pair_id, "quiet"),
                )
            ]
        elif event.act == "undelete":
            corrections.undelete(who, pair_id)
            note = [h("p.done", services.durable.told("The pair is back."), role="status")]
        elif event.act == "restore":
            revision = corrections.restore(who, pair_id, int(number))
            told = f"Revision {number} is the newest again, as revision {revision.number}."
            note = [h("p.done", services.durable.told(told), role="status")]
        elif event.act == "ask-erase":
            note = shown.ask_to_erase(pair_id, services.erasing.find(who, [pair_id]))
        return refresh(who, pair_id, *searched, start=start, note=note)

    def erase(event: gr.EventData, request: gr.Request, start, *searched):
        who = actor(request)
        yield {status: [progress(None, "Erasing it here and in the data sets on the Hub …")]}
        try:
            done = services.erasing.erase(who, [event.ref])
        except Exception as error:
            yield {status: alert(*explain(error))}
        else:
            yield refresh(who, "", *searched, start=start, note=shown.erased(done))

    def tell_losses(name: str, request: gr.Request):
        who = actor(request)
        told = [h("p.hint", "Everything but earlier revisions.")] if name == DATASETS else None
        return {
            left_behind: told or shown.losses(corrections.losses(who, name)),
            download: gr.DownloadButton(visible=False),
            files: [],
        }

    def export_pairs(name: str, request: gr.Request):
        who, made = actor(request), []

        def write(folder: Path) -> None:
            if name == DATASETS:
                made.append(corrections.export_datasets(who, folder))
            else:
                made.append(corrections.export_to(who, folder, name))

        yield {files: [progress(None, "Writing pairs and pictures …")], download: gr.DownloadButton(visible=False)}
        try:
            path = make_zip(f"pairs-{name}", write)
        except Exception as error:
            yield {files: alert(*explain(error))}
            return
        plural = "s" if made[0] != 1 else ""
        yield {
            files: [h("p.done", f"{made[0]:,} pair{plural}, ready to download.", role="status")],
            download: gr.DownloadButton(f"Download {path.name} ({size(path)})", value=str(path), visible=True),
        }

    def import_file(request: gr.Request, path: str | None, *searched):
        if not path:
            return
        who = actor(request)
        job = Job(
            "import", lambda tell: corrections.import_from(who, Path(path), progress=lambda rows: tell("", rows, 0))
        )
        job.start()
        try:
            while job.running:
                yield {files: [progress(None, f"Checking every row: {job.done:,} read …", "Import")]}
                job.wait(0.4)
        finally:
            Path(path).unlink(missing_ok=True)
        if job.error:
            yield {files: alert(*job.error)}
        else:
            report = shown.import_report(job.result)
            if missing := services.durable.told(""):
                report = [*report, h("p.warning", missing.strip(), role="status")]
            yield {files: report, **refresh(who, "", *searched)}

    # Gradio's `input` of a text field does not tell of what is pasted, deleted or typed on a screen keyboard.
    private(text.change, search, [found, *filters], outputs, trigger_mode="always_last")
    for field in (kind, outcome, annotator, model):
        private(field.input, search, [found, *filters], outputs, trigger_mode="always_last")
    script(private(listing.select, select, [offset, *filters], outputs, trigger_mode="multiple").then, SHOW_PAIR)
    private(pager.select, turn, filters, outputs)
    for part in (heading, record, status):
        private(part.select, act, [offset, *filters], outputs)
    private(status.edit, erase, [offset, *filters], outputs)
    exports = {"concurrency_id": "files", "concurrency_limit": 2}
    for event in (drawer.expand, format.input):
        private(event, tell_losses, format, [left_behind, files, download], **exports)
    private(export.click, export_pairs, format, [files, download], **exports)
    private(upload.upload, import_file, [upload, *filters], [files, *outputs], **exports)

    return PairsTab(heading, (*outputs, *filters), chosen, filters, show_tab)
