"""The part of the Evaluate tab for benchmarks: two sets of answers beside each other, and every item of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from rlhfv.errors import InvalidData, NotFound
from rlhfv.models.decoding import DECODINGS
from rlhfv.services import Actor, Services
from rlhfv.studio import benchmark_answers, benchmark_answers_view, judged
from rlhfv.studio import benchmarks_view as shown
from rlhfv.studio.chat_view import alert
from rlhfv.studio.downloads import make_file, size
from rlhfv.studio.events import explain, private, script
from rlhfv.studio.view import h, progress, view
from rlhfv.studio.view import pager as turn_pages
from rlhfv.studio.viewer import show, viewer
from rlhfv.studio.visitor import actor

# Where there is room for one column only, the item stands below its list.
SHOW_ITEM = "() => { if (innerWidth < 900) document.getElementById('compared-item')?.scrollIntoView(); }"
NOTHING = ("", "", "")
FILES = [".json", ".jsonl", ".tsv", ".csv"]


@dataclass(frozen=True)
class BenchmarksPart:
    """`refresh(who, *kept)` fills it; what is compared stays as it is while its two sets are there."""

    kept: tuple
    outputs: tuple
    refresh: Callable[..., dict]


def build(services: Services) -> BenchmarksPart:
    reporting, benchmarking = services.reporting, services.benchmarking

    with gr.Row(elem_classes="workbench"):
        with gr.Column(scale=4, min_width=280, elem_classes="side", elem_id="compare-form"):
            before = gr.Dropdown([], label="Answers before", filterable=False, elem_id="compare-before")
            after = gr.Dropdown([], label="Answers after", filterable=False, elem_id="compare-after")
            variant = gr.Dropdown([], label="Counted as", filterable=False, elem_id="compare-variant")
            compare = gr.Button("Compare", variant="primary", size="sm", elem_id="compare-sets")
            judging = judged.build(services)
            managing = view(shown.MANAGE, elem_id="compare-manage")
            answering = benchmark_answers.build(services)
            with gr.Accordion("Take in a file of answers", open=False, elem_id="compare-files"):
                wanting = view(elem_id="compare-wanting")
                benchmark = gr.Dropdown(
                    [],
                    label="Benchmark",
                    filterable=False,
                    info="Answers made elsewhere, as AMBER, POPE, LLaVA, MMHal-Bench or Object HalBench write them, "
                    "as captions, as samples of lmms-eval or as a table (.tsv) of VLMEvalKit.",
                    elem_id="answers-benchmark",
                )
                title = gr.Textbox(
                    label="Name", placeholder="What the list calls it", max_length=120, elem_id="answers-title"
                )
                decoding = gr.Dropdown(
                    [("not known", ""), *((name, name) for name in DECODINGS)],
                    value="",
                    label="Decoded as",
                    filterable=False,
                    info="Where you know that the bare question was asked and decoded so. What is not known is "
                    "compared with what is not known only.",
                    elem_id="answers-decoding",
                )
                model = gr.Textbox(
                    label="Answered by", placeholder="Where you know it", max_length=120, elem_id="answers-model"
                )
                upload = gr.UploadButton("Take in", size="sm", file_types=FILES, elem_id="take-in-answers")
            status = view(elem_id="compare-status")
        with gr.Column(scale=9, min_width=300):
            message = view(shown.NOT_YET, elem_id="compare-message")
            verdict = view(elem_id="compare-verdict")
            figures = view(elem_id="compare-figures")
            with gr.Column(visible=False, elem_id="compared") as compared:
                outcome = gr.Radio(
                    [(name, value) for value, name in shown.FILTERS.items()],
                    value=shown.ALL,
                    label="Items",
                    elem_id="compare-filter",
                )
                with gr.Row(elem_classes="workbench"):
                    with gr.Column(scale=5, min_width=280, elem_classes="list"):
                        listing = view(elem_id="compared-list", label="Items")
                        pager = view(elem_id="compared-pager")
                    with gr.Column(scale=7, min_width=290, elem_id="compared-item"):
                        picture = viewer("compared-picture")
                        item = view(elem_id="compared-answers")
                with gr.Row(elem_classes="tight"):
                    pictures = gr.Checkbox(True, label="With pictures", min_width=130, elem_id="page-pictures")
                    make = gr.Button("Make a page to share", size="sm", elem_id="make-page")
                    download = gr.DownloadButton(
                        "Download", size="sm", variant="primary", visible=False, elem_id="download-page"
                    )
                page_status = view(elem_id="page-status")
    chosen, start = gr.State(NOTHING), gr.State(0)

    form = (before, after, variant)
    sets_outputs = (*form, benchmark, wanting, message, verdict, figures, compared, chosen, *judging.outputs)
    items = (listing, pager, picture, item, start)
    everything = tuple(dict.fromkeys((*items, *sets_outputs, outcome, download, page_status)))

    def refresh(
        who: Actor, first: str = "", second: str = "", counted: str = "", asked=NOTHING, of="", *answered_by
    ) -> dict:
        return {
            **show_sets(who, first, second, counted, asked),
            benchmark: choose_benchmark(who, first, of),
            **answering.refresh(who, *answered_by),
        }

    def choose_benchmark(who: Actor, first: str | None, of: str | None) -> gr.Dropdown:
        """What a file would answer: what was chosen, else what the first set answers, else the first of the list."""
        offers = offered(who)
        names = [name for _, name in offers]
        sets = reporting.sets(who)
        first = first if any(each.id == first for each in sets) else (_default_first(sets) if sets else "")
        answered = [each.stamp.benchmark for each in sets if each.id == first]
        wanted = [name for name in (of, *answered) if name in names]
        return gr.Dropdown(offers, value=next(iter(wanted or names), None))

    def offered(who: Actor) -> list[tuple[str, str]]:
        return [(one.benchmark.title, one.benchmark.name) for one in benchmarking.benchmarks(who) if one.ready]

    def show_sets(who: Actor, first: str = "", second: str = "", counted: str = "", asked=NOTHING) -> dict:
        sets, offers = reporting.sets(who), offered(who)
        folder = str(benchmarking.root) if "manage" in who.rights else ""
        first = first if any(each.id == first for each in sets) else ""
        if not first and sets:
            first = _default_first(sets)
        return {
            before: gr.Dropdown(_choices(sets), value=first or None),
            benchmark: gr.Dropdown(offers),
            wanting: [] if offers else benchmark_answers_view.no_files(folder, benchmarking.benchmarks(who)),
            **fill_second(who, sets, first, second, counted),
            **({} if {*asked[:2]} <= {each.id for each in sets} else clear(nothing_yet(who, sets))),
        }

    def nothing_yet(who: Actor, sets) -> list:
        return [shown.NOT_YET] if sets else shown.no_sets(benchmarking.may_answer(who))

    def clear(told: list) -> dict:
        """Nothing is compared; `told` says why."""
        hidden = {verdict: [], figures: [], compared: gr.Column(visible=False), chosen: NOTHING}
        return {**hidden, message: told}

    def fill_second(who: Actor, sets, first: str, second: str = "", counted: str = "") -> dict:
        """What can stand beside the first: answers to the same questions, and the ways in which these are counted."""
        kind = next((each.stamp.benchmark for each in sets if each.id == first), "")
        others = [each for each in sets if each.stamp.benchmark == kind and each.id != first]
        second = second if any(each.id == second for each in others) else ""
        second = second or (others[0].id if others else "")
        ways = reporting.variants(who, first) if kind else []
        return {
            after: gr.Dropdown(_choices(others), value=second or None),
            **judging.choose(who, [each for each in (first, second) if kind and each], ways),
            variant: gr.Dropdown(
                ways, value=counted if counted in ways else (ways[0] if ways else None), visible=len(ways) > 1
            ),
        }

    def choose_first(first: str | None, request: gr.Request) -> dict:
        who = actor(request)
        return fill_second(who, reporting.sets(who), first or "")

    def show_items(who: Actor, asked, wanted: str, first: int, opened: str = "") -> dict:
        """A page of items from the one at `first`, with one of them opened: the named one, else the first."""
        comparison = reporting.compared(who, *asked)
        rows = shown.chosen_rows(comparison, wanted)
        first = min(max(0, first), max(0, len(rows) - 1)) // shown.PAGE * shown.PAGE
        page = rows[first : first + shown.PAGE]
        row = next((each for each in page if each.item.id == opened), page[0] if page else None)
        found = reporting.stored_picture(who, row.item) if row else ""
        return {
            listing: shown.listing(page, row.item.id if row else "", wanted),
            pager: turn_pages(first, shown.PAGE, len(rows), "items"),
            picture: show((found,), row.item.question) if found else None,
            item: shown.opened(row, reporting.sides(who, *asked[:2]), bool(found)) if row else [],
            start: first,
        }

    def compare_sets(first: str | None, second: str | None, counted: str | None, request: gr.Request):
        who, asked = actor(request), (first or "", second or "", counted or "")
        try:
            if needed := judging.ask_first(who, asked):
                yield needed
                return
        except Exception as error:
            yield not_compared(who, asked, error)
            return
        counting = [progress(None, "Counting, and drawing resamples for the intervals …")]
        yield {**judging.choose(who, (), ()), message: counting}
        yield show_compared(who, asked)

    def show_compared(who: Actor, asked) -> dict:
        try:
            comparison = reporting.comparison(who, *asked)
            sides = reporting.sides(who, *asked[:2])
            shown_items = show_items(who, asked, shown.ALL, 0)
        except Exception as error:
            return not_compared(who, asked, error)
        return {
            **shown_items,
            message: [],
            verdict: shown.verdict(comparison, sides),
            figures: shown.figures(comparison, sides),
            compared: gr.Column(visible=True),
            outcome: gr.Radio(shown.filters(comparison), value=shown.ALL),
            chosen: asked,
            download: gr.DownloadButton(visible=False),
            page_status: [],
        }

    def not_compared(who: Actor, asked, error: Exception) -> dict:
        """Why there is nothing to see; sets may have been deleted in another tab."""
        if isinstance(error, NotFound):
            return {**show_sets(who, *asked, asked=asked), **clear(shown.gone())}
        return clear(alert(*explain(error)))

    def turn_to(who: Actor, asked, wanted: str, first: int, opened: str = "") -> dict:
        if not any(asked):
            return gr.skip()
        try:
            return show_items(who, asked, wanted, first, opened)
        except Exception as error:
            return not_compared(who, asked, error)

    def filter_items(wanted: str, asked, request: gr.Request) -> dict:
        return turn_to(actor(request), asked, wanted, 0)

    def turn(event: gr.EventData, wanted: str, asked, request: gr.Request) -> dict:
        return turn_to(actor(request), asked, wanted, int(event.ref))

    def open_item(event: gr.EventData, wanted: str, asked, first: int, request: gr.Request) -> dict:
        return turn_to(actor(request), asked, wanted, first, event.ref)

    def act(event: gr.EventData, first: str | None, second: str | None, asked, request: gr.Request) -> dict:
        """Asks before it deletes."""
        who, told = actor(request), []
        if event.act == "ask":
            return {managing: shown.ask_to_delete([one for one in reporting.sets(who) if one.id in (first, second)])}
        if event.act == "delete":
            try:
                reporting.delete(who, event.ref)
                told = [h("p.done", "The answers are deleted.", role="status")]
            except Exception as error:
                told = alert(*explain(error))
        return {managing: [shown.MANAGE, *told], **show_sets(who, first or "", second or "", asked=asked)}

    def take_in(
        request: gr.Request, path: str | None, kind: str | None, name: str, how: str, by: str, first: str | None, asked
    ):
        if not path:
            return
        who = actor(request)
        yield {status: [progress(None, "Reading the answers …")]}
        try:
            who.require("train")
            if not kind:
                raise InvalidData(
                    "No benchmark is chosen.",
                    "The file holds answers only; what was asked and what is true stand in the benchmark's files.",
                    "Choose the benchmark that they answer, then take the file in again.",
                )
            taken = reporting.take_in(who, kind, Path(path), name or "", how or "", by or "")
            sets = reporting.sets(who)
        except Exception as error:
            yield {status: alert(*explain(error))}
            return
        finally:
            Path(path).unlink(missing_ok=True)
        new = next(each for each in sets if each.id == taken)
        beside = [each.id for each in sets if each.stamp.benchmark == new.stamp.benchmark and each.id != taken]
        first = first if first in beside else (beside or [taken])[-1]
        told = f"{new.done:,} of {new.total:,} items have an answer in {new.title}."
        yield {
            status: [h("p.done", told, role="status", dir="auto")],
            **show_sets(who, first, taken if beside else "", asked=asked),
        }

    def make_page(with_pictures: bool, asked, request: gr.Request):
        who = actor(request)
        yield {page_status: [progress(None, "Writing the page …")], download: gr.DownloadButton(visible=False)}
        try:
            path = make_file("comparison.html", reporting.page(who, *asked, with_pictures=with_pictures))
        except NotFound as error:
            yield {page_status: [], **not_compared(who, asked, error)}
            return
        except Exception as error:
            yield {page_status: alert(*explain(error))}
            return
        told = "One file that needs nothing else: it opens in any browser, and prints."
        yield {
            page_status: [h("p.done", told, role="status")],
            download: gr.DownloadButton(f"Download {path.name} ({size(path)})", value=str(path), visible=True),
        }

    work = {"concurrency_id": "files", "concurrency_limit": 2}
    private(before.input, choose_first, before, [after, variant, *judging.outputs], trigger_mode="always_last")
    private(compare.click, compare_sets, list(form), list(everything), **work)
    judging.connect(show_compared, everything)
    private(managing.select, act, [before, after, chosen], [managing, *sets_outputs])
    turned = [*items, *sets_outputs]
    private(outcome.input, filter_items, [outcome, chosen], turned, trigger_mode="always_last")
    private(pager.select, turn, [outcome, chosen], turned)
    opened = private(listing.select, open_item, [outcome, chosen, start], turned, trigger_mode="multiple")
    script(opened.then, SHOW_ITEM)
    private(
        upload.upload,
        take_in,
        [upload, benchmark, title, decoding, model, before, chosen],
        [status, *sets_outputs],
        **work,
    )
    private(make.click, make_page, [pictures, chosen], [page_status, download, *sets_outputs], **work)
    answering.connect(
        lambda who, first, second, asked: show_sets(who, first, second, asked=asked), chosen, sets_outputs
    )

    return BenchmarksPart((*form, chosen, benchmark, *answering.kept), (*sets_outputs, *answering.outputs), refresh)


def _choices(sets) -> list[tuple[str, str]]:
    """The title of what was answered here names the benchmark already."""
    return [
        (f"{each.title}{f' · {each.stamp.benchmark}' if each.stamp.imported else ''} · {each.done:,} answers", each.id)
        for each in sorted(sets, key=lambda one: one.created, reverse=True)
    ]


def _default_first(sets) -> str:
    """The oldest answers to the benchmark that was answered last: mostly the baseline's."""
    ordered = sorted(sets, key=lambda one: one.created)
    return next(each.id for each in ordered if each.stamp.benchmark == ordered[-1].stamp.benchmark)
