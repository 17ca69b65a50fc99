"""What connects the tabs: what a page shows first, what a tab shows when it is chosen, and the ways between them."""

from dataclasses import dataclass

import gradio as gr

from rlhfv.services import Actor, Services
from rlhfv.services.model_host import BASELINE
from rlhfv.studio import guide as guide_strip
from rlhfv.studio import people_view, welcome
from rlhfv.studio.chat import ChatTab
from rlhfv.studio.correct import FOCUS_EDITOR, CorrectTab
from rlhfv.studio.evaluate import EvaluateTab
from rlhfv.studio.events import private, script
from rlhfv.studio.guide import GuideStrip
from rlhfv.studio.pairs import PairsTab
from rlhfv.studio.people import PeopleTab
from rlhfv.studio.publish import PublishTab
from rlhfv.studio.review import ReviewTab
from rlhfv.studio.span_editor import CorrectionDocument
from rlhfv.studio.statistics import StatisticsTab
from rlhfv.studio.tasks import TasksTab
from rlhfv.studio.train import TrainTab
from rlhfv.studio.visitor import actor

NAMES = ("chat", "correct", "review", "pairs", "train", "evaluate", "publish", "tasks", "statistics", "people")
OF_TEAMS = ("review", "people")
NEEDS = {
    "review": "review",
    "train": "train",
    "evaluate": "train",
    "publish": "publish",
    "tasks": "manage",
    "people": "manage",
}
"""The right without which there is nothing to do in a tab."""
NO_FILTERS = ("", "", "", "", "")


@dataclass(frozen=True)
class Page:
    demo: gr.Blocks
    person: gr.HTML
    guide: GuideStrip
    tabs: gr.Tabs
    tab: dict[str, gr.Tab]
    chat: ChatTab
    correct: CorrectTab
    review: ReviewTab
    pairs: PairsTab
    train: TrainTab
    evaluate: EvaluateTab
    publish: PublishTab
    tasks: TasksTab
    statistics: StatisticsTab
    people: PeopleTab


def tabs_for(services: Services, rights: frozenset[str]) -> tuple[str, ...]:
    """What somebody with these rights is shown. Where one person works alone there is nobody to review for, and nobody
    who signs in.
    """
    team = services.settings.team
    return tuple(name for name in NAMES if (name not in OF_TEAMS or team) and NEEDS.get(name, "chat") in rights)


def connect(services: Services, page: Page) -> None:
    chat, correct, pairs, train, evaluate = page.chat, page.correct, page.pairs, page.train, page.evaluate
    publish, review, tasks, statistics, people = page.publish, page.review, page.tasks, page.statistics, page.people

    def open_page(request: gr.Request) -> dict:
        """A page load: the conversation comes back, and the tab of the address is filled."""
        who = actor(request)
        asked = dict(request.query_params)
        offered = tabs_for(services, who.rights)
        name = asked.get("tab") if asked.get("tab") in offered else "chat"
        shown = chat.show(who) | {page.person: people_view.person(who)} | page.guide.show(who)
        shown |= {page.tab[each]: gr.Tab(visible=each in offered) for each in NAMES}
        if "train" in offered:
            shown |= train.show_form(who)
        if name == "correct":
            shown |= correct.open_answer(who, asked.get("answer"))
        elif name == "review":
            shown |= review.show(who)
        elif name == "pairs":
            shown |= pairs.show(who, "", *NO_FILTERS)
        elif name == "train":
            shown |= train.refresh(who)
        elif name == "evaluate":
            shown |= evaluate.refresh(who)
        elif name == "publish":
            shown |= publish.show(who)
        elif name == "tasks":
            shown |= tasks.show(who)
        elif name == "statistics":
            shown |= statistics.show(who)
        elif name == "people":
            shown |= people.show(who)
        return {**shown, page.tabs: gr.Tabs(selected=name)}

    def visit_chat(request: gr.Request) -> dict:
        return chat.show(actor(request))

    def visit_correct(document: CorrectionDocument, request: gr.Request):
        # An answer that is open stays open: its place, its undo steps and what is half typed.
        return gr.skip() if document.answer_id else correct.open_answer(actor(request), None)

    def visit_review(chosen: str, request: gr.Request) -> dict:
        return review.show(actor(request), chosen)

    def visit_pairs(request: gr.Request, chosen: str, *filters) -> dict:
        return pairs.show(actor(request), chosen, *filters)

    def visit_train(request: gr.Request, *kept) -> dict:
        return train.refresh(actor(request), *kept)

    def visit_evaluate(request: gr.Request, *kept) -> dict:
        return evaluate.refresh(actor(request), *kept)

    def visit_publish(repo: str, run_id: str | None, request: gr.Request) -> dict:
        return publish.show(actor(request), repo, run_id)

    def visit_tasks(due: str, request: gr.Request) -> dict:
        return tasks.show(actor(request), due)

    def visit_statistics(request: gr.Request) -> dict:
        return statistics.show(actor(request))

    def visit_people(request: gr.Request) -> dict:
        return people.show(actor(request))

    def show_person(request: gr.Request):
        return people_view.person(actor(request))

    def correct_this(event: gr.EventData, request: gr.Request) -> dict:
        return {**correct.open_answer(actor(request), event.ref), page.tabs: gr.Tabs(selected="correct")}

    def show_history(event: gr.EventData, request: gr.Request) -> dict:
        return {
            **pairs.show(actor(request), event.ref, *NO_FILTERS, clear=True),
            page.tabs: gr.Tabs(selected="pairs"),
        }

    def review_pair(event: gr.EventData, request: gr.Request) -> dict:
        return {**review.show(actor(request), event.ref), page.tabs: gr.Tabs(selected="review")}

    def chat_with(event: gr.EventData, request: gr.Request) -> dict:
        """The adapter of a run beside the baseline."""
        who: Actor = actor(request)
        voice = services.training.voice_of(who, event.ref)
        services.chat.choose(who, BASELINE, voice, services.chat.open(who).sampling)
        return {**chat.show(who), page.tabs: gr.Tabs(selected="chat")}

    parts = (chat, correct, review, pairs, train, evaluate, publish, tasks, statistics, people)
    every = list(
        dict.fromkeys(
            [
                *(output for part in parts for output in part.outputs),
                *page.tab.values(),
                page.person,
                *page.guide.outputs,
                page.tabs,
            ]
        )
    )
    script(private(page.demo.load, open_page, None, every).then, "() => window.studio?.ready()")

    visits = {
        "chat": (visit_chat, None, chat.outputs),
        "correct": (visit_correct, correct.editor, correct.outputs),
        "review": (visit_review, review.chosen, review.outputs),
        "pairs": (visit_pairs, [pairs.chosen, *pairs.filters], pairs.outputs),
        "train": (visit_train, list(train.kept), train.outputs),
        "evaluate": (visit_evaluate, list(evaluate.kept), evaluate.outputs),
        "publish": (visit_publish, list(publish.kept), publish.outputs),
        "tasks": (visit_tasks, tasks.due, tasks.outputs),
        "statistics": (visit_statistics, None, statistics.outputs),
        "people": (visit_people, None, people.outputs),
    }
    for name, (function, inputs, outputs) in visits.items():
        filled = private(page.tab[name].select, function, inputs, list(outputs))
        script(filled.then, "() => window.studio?.arrived()")
    for name in NAMES:
        script(page.tab[name].select, f"() => window.studio?.visit('{name}')")

    welcome.connect(services, page.demo, chat)
    guide_strip.connect(services, page.guide, page.tabs, chat, correct)
    for column in (chat.left, chat.right):
        opened = private(column.edit, correct_this, None, [*correct.outputs, page.tabs])
        script(opened.then, FOCUS_EDITOR, correct.editor)
    private(correct.message.edit, show_history, None, [*pairs.outputs, page.tabs])
    private(pairs.heading.edit, review_pair, None, [*review.outputs, page.tabs])
    if services.settings.hub_sign_in:
        # A sign-in may end while the page is open.
        private(publish.session.change, show_person, None, page.person)
        script(page.person.select, "() => window.studio?.leaveFor('logout')")
    else:
        script(page.person.select, "() => { location.href = 'logout'; }")
    private(train.heading.edit, chat_with, None, [*chat.outputs, page.tabs])
