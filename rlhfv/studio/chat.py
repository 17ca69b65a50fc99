"""The Chat tab: one question, two voices, and the judgements that need no editor."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from rlhfv.corrections.conversation import Sampling
from rlhfv.corrections.images import MAX_BYTES
from rlhfv.services import Actor, Services
from rlhfv.services.chat import SIDES, ChatState
from rlhfv.services.terms import TermsMissing
from rlhfv.studio import chat_view as shown
from rlhfv.studio import models_view, share, terms_view, welcome
from rlhfv.studio.events import HUB, MODEL, explain, private, script, throttle
from rlhfv.studio.photo import photo
from rlhfv.studio.picture import PictureBox
from rlhfv.studio.sides import sides, titles
from rlhfv.studio.stops import Stops
from rlhfv.studio.view import h, view
from rlhfv.studio.visitor import actor
from rlhfv.studio.waiting import waiting_note

# A dropdown takes an empty value for "nothing chosen", and the baseline's id is empty.
BASELINE = "baseline"
ASK = "Ask both models about the picture …"


@dataclass(frozen=True)
class ChatTab:
    """`left` and `right` send `edit` with an answer's id; `show(who)` gives what the tab shows to a visitor. `box` is
    the question, `editing` whether it replaces the last one. `asks` are the events that ask, `answered` what follows
    when both answers are there. `welcome` is the recorded comparison."""

    left: gr.HTML
    right: gr.HTML
    welcome: gr.HTML
    message: gr.HTML
    box: gr.Textbox
    editing: gr.State
    asks: tuple
    answered: tuple
    outputs: tuple
    show: Callable[[Actor], dict]


def build(services: Services) -> ChatTab:
    chat, stops = services.chat, Stops()
    info = chat.studio(Actor("page", rights=frozenset({"chat"})))

    recorded = welcome.build(services)
    with gr.Row(elem_classes="workbench chat"):
        with gr.Column(scale=3, min_width=260, elem_classes="side"):
            picture = PictureBox(
                label="Picture",
                show_label=False,
                sources=["upload", "webcam", "clipboard"],
                type="filepath",
                image_mode=None,
                height=300,
                buttons=["fullscreen"],
                placeholder="Drop a picture here,\npaste one, or choose an example",
                elem_id="chat-picture",
                alt_text="The picture that both models are asked about",
                webcam_options=gr.WebcamOptions(mirror=False, constraints={"facingMode": "environment"}),
            )
            photo()
            strip = view(elem_id="chat-strip")
            if services.expiring.notice:
                view(h("p.hint", services.expiring.notice), elem_id="forgotten")
            with gr.Row(elem_classes="tight"):
                draw = gr.Button("New scene", size="sm", visible=info.can_draw, elem_id="new-scene")
                another = gr.UploadButton(
                    "Add another",
                    size="sm",
                    file_types=["image"],
                    visible=info.several_pictures,
                    elem_id="add-picture",
                )
            examples = gr.Gallery(
                value=[(str(path), label) for path, label in info.examples],
                label="Example pictures",
                show_label=False,
                columns=4,
                height="auto",
                allow_preview=False,
                interactive=False,
                buttons=[],
                object_fit="cover",
                visible=bool(info.examples),
                elem_id="chat-examples",
            )
            with gr.Accordion("Sampling and seed", open=False, elem_id="sampling"):
                temperature = gr.Slider(
                    0, 2, 0, step=0.05, label="Temperature", info="0 is greedy: always the likeliest word."
                )
                top_p = gr.Slider(0.05, 1, 1, step=0.05, label="Top-p", info="Drops the unlikely words; 1 keeps all.")
                tokens = gr.Slider(16, 1024, 256, step=16, label="Longest answer", info="In tokens.")
                seed = gr.Number(
                    0, precision=0, minimum=0, maximum=2**31 - 1, label="Seed", info="The same seed repeats an answer."
                )
            others = models_view.build(services)
        with gr.Column(scale=9, min_width=300, elem_classes="talk"):
            switch = sides()
            with gr.Row(equal_height=True, elem_classes="columns"):
                with gr.Column(min_width=260, elem_classes="card"):
                    left_voice = gr.Dropdown(
                        [], label="Left column", container=False, elem_id="left-voice", filterable=False
                    )
                    left = view(elem_id="left-column", label="Left answers", classes="answers")
                with gr.Column(min_width=260, elem_classes="card"):
                    right_voice = gr.Dropdown(
                        [], label="Right column", container=False, elem_id="right-voice", filterable=False
                    )
                    right = view(elem_id="right-column", label="Right answers", classes="answers")
            with gr.Row(elem_classes="judge"):
                votes = view(elem_id="votes")
                marks = gr.Checkbox(
                    True,
                    label="Mark the words that differ",
                    container=False,
                    min_width=200,
                    scale=0,
                    elem_id="mark-words",
                )
                share_it = gr.Button("Share", size="sm", min_width=80, scale=0, elem_id="share-comparison")
            shared, show_shared = share.build(services)
            with gr.Column(elem_classes="dock"):
                message = view(elem_id="chat-message")
                box = gr.Textbox(
                    label="Question",
                    show_label=False,
                    placeholder=ASK,
                    lines=1,
                    max_lines=8,
                    max_length=8000,
                    submit_btn=True,
                    stop_btn=False,
                    elem_id="question",
                    autofocus=True,
                    html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=True, enterkeyhint="send"),
                )
            with gr.Row(elem_classes="tight after"):
                asked = view(*shown.suggestions(info.questions), elem_id="suggestions")
                again = gr.Button("↻ Regenerate", size="sm", min_width=110, scale=0, elem_id="regenerate")
                edit = gr.Button("Edit last question", size="sm", min_width=140, scale=0, elem_id="edit-question")
                swap = gr.Button("⇄ Swap", size="sm", min_width=80, scale=0, elem_id="swap")
                new = gr.Button("New conversation", size="sm", min_width=140, scale=0, elem_id="new-conversation")
    terms = terms_view.build(services, "chat-")
    editing, waits = gr.State(False), gr.State(("", ""))  # the judgement that is kept when the terms are agreed to

    columns = (left, right, votes, strip)
    settings = (temperature, top_p, tokens, seed)
    outputs = (*columns, switch, picture, another, left_voice, right_voice, *settings, message, *others.outputs)

    def show(state: ChatState, note: str = "") -> dict:
        return {
            left: shown.column(state, "left"),
            right: shown.column(state, "right"),
            votes: shown.vote_bar(state, note),
            strip: shown.picture_strip(state, services.host.several_pictures),
        }

    def show_sides(who: Actor, state: ChatState) -> dict:
        named = {voice.id: voice.title for voice in chat.studio(who).voices}
        return {switch: titles(named.get(state.left, ""), named.get(state.right, ""))}

    def show_voices(who: Actor, state: ChatState) -> dict:
        voices = [
            (voice.title + (f" ({voice.notice})" if voice.notice else ""), voice.id or BASELINE)
            for voice in chat.studio(who).voices
        ]
        return {
            **show_sides(who, state),
            left_voice: gr.Dropdown(voices, value=state.left or BASELINE),
            right_voice: gr.Dropdown(voices, value=state.right or BASELINE),
        }

    def show_all(who: Actor, state: ChatState, note: str = "", problem: list | None = None) -> dict:
        sampling = state.sampling
        return {
            **show(state, note),
            **show_voices(who, state),
            picture: state.shown_image,
            another: gr.UploadButton(visible=services.host.several_pictures),
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            tokens: sampling.max_new_tokens,
            seed: sampling.seed,
            message: problem or [],
            **others.show(who),
        }

    def refresh(who: Actor) -> dict:
        return show_all(who, chat.open(who))

    def change(action, request: gr.Request) -> dict:
        """Runs `action(actor)`, which returns the new state or None, and shows the conversation or the error."""
        who = actor(request)
        try:
            state = action(who)
        except Exception as error:
            return show_all(who, chat.open(who), problem=shown.alert(*explain(error)))
        return show_all(who, state or chat.open(who))

    def take(who: Actor, path: str, beside: bool = False) -> ChatState:
        """The uploaded file becomes a stored picture; the file itself, with whatever metadata it has, goes."""
        file = Path(path)
        try:
            with file.open("rb") as stream:
                # One byte over the limit is enough for the shelf to refuse it.
                image = chat.add_image(who, stream.read(MAX_BYTES + 1))
        finally:
            file.unlink(missing_ok=True)
        kept = chat.open(who).pending_images if beside else ()
        return chat.set_images(who, (*(name for name in kept if name != image.name), image.name))

    def upload(path: str | None, request: gr.Request):
        return change(lambda who: take(who, path) if path else chat.set_images(who, ()), request)

    def add_another(path: str | None, request: gr.Request):
        return change(lambda who: take(who, path, beside=True) if path else None, request)

    def new_scene(request: gr.Request):
        return change(lambda who: chat.set_images(who, (chat.draw_scene(who).name,)), request)

    def choose_example(event: gr.SelectData, request: gr.Request):
        def use(who: Actor) -> ChatState:
            data = info.examples[event.index][0].read_bytes()
            return chat.set_images(who, (chat.add_image(who, data).name,))

        return change(use, request)

    def strip_action(event: gr.EventData, request: gr.Request):
        def act(who: Actor) -> ChatState:
            if event.act == "fresh":
                return chat.new_conversation(who, keep_image=True)
            pending = chat.open(who).pending_images
            return chat.set_images(who, tuple(name for name in pending if name != event.ref))

        return change(act, request)

    def choose(left_id, right_id, warmth, nucleus, longest, number, request: gr.Request):
        who = actor(request)
        voices = ["" if voice == BASELINE else voice for voice in (left_id, right_id)]
        try:
            state = chat.choose(who, *voices, Sampling(warmth, nucleus, int(longest), int(number or 0)))
        except Exception as error:
            return show_all(who, chat.open(who), problem=shown.alert(*explain(error)))
        # Nothing comes back into the fields: what was set meanwhile must stay, and is sent next.
        return {**show_sides(who, state), message: []}

    def swap_columns(request: gr.Request):
        return change(chat.swap, request)

    def start_over(request: gr.Request):
        stops.stop(actor(request).visitor)
        return {**change(chat.new_conversation, request), editing: False}

    def stream(who: Actor, question: str, start, is_edit: bool = False) -> Iterator[dict]:
        """Streams `start(stop)` into the columns; after an error the question is back in its box."""
        stop = stops.add(who.visitor)
        running = gr.Textbox(value="", placeholder=ASK, submit_btn=False, stop_btn=True)
        ready = gr.Textbox(placeholder=ASK, submit_btn=True, stop_btn=False)
        states = throttle(start(stop))
        loading, state, in_line = chat.waits_for_loading(who), chat.open(who), False
        try:
            yield {box: running, message: waiting_note(state, loading), editing: False}
            for state in states:
                heard = any(getattr(turn, side).text for turn in state.turns[-1:] for side in SIDES)
                waiting = [] if heard else waiting_note(state, loading, chat.loading_status(who))
                # Many wait and are told often: while nothing but the place changes, nothing else is sent.
                yield {message: waiting} if state.place and in_line else {**show(state), message: waiting}
                in_line = bool(state.place)
            # An adapter that turned out to change nothing says so above its column.
            yield {**show_voices(who, state), **others.show_here(who), box: ready, message: []}
        except GeneratorExit:
            # The page is gone. What the models said so far is stored at the end of the turn, so that end is awaited.
            stop.set()
            for _ in states:
                pass
            raise
        except Exception as error:
            back = gr.Textbox(value=question, placeholder=ASK, submit_btn=True, stop_btn=False)
            state = chat.open(who)  # the voices are others where no GPU was left
            told = {box: back, editing: is_edit, message: shown.alert(*explain(error))}
            yield {**show(state), **show_voices(who, state), **told}
        finally:
            stops.end(who.visitor, stop)

    def ask(question: str, is_edit: bool, request: gr.Request):
        who = actor(request)
        if is_edit:
            yield from stream(who, question, lambda stop: chat.regenerate(who, stop, question), is_edit)
        else:
            yield from stream(who, question, lambda stop: chat.ask(who, question, stop))

    def suggest(event: gr.EventData, request: gr.Request):
        who, question = actor(request), info.questions[int(event.ref)]
        yield from stream(who, question, lambda stop: chat.ask(who, question, stop))

    def regenerate(request: gr.Request):
        who = actor(request)
        state = chat.open(who)
        if state.sampling.temperature > 0:
            # The same seed would draw the same words again.
            sampling = Sampling(**{**vars(state.sampling), "seed": (state.sampling.seed + 1) % 2**31})
            chat.choose(who, state.left, state.right, sampling)
            yield {seed: sampling.seed}
        yield from stream(who, "", lambda stop: chat.regenerate(who, stop))

    def edit_last(request: gr.Request):
        state = chat.open(actor(request))
        if not state.turns:
            return {message: shown.alert("There is no question to edit.", "Nothing was asked yet.", "Type one below.")}
        return {box: state.turns[-1].question, editing: True, message: shown.editing_notice()}

    def leave_edit():
        return {box: "", editing: False, message: []}

    def stop_all(request: gr.Request) -> None:
        stops.stop(actor(request).visitor)

    def vote(event: gr.EventData, request: gr.Request):
        return judge_by(actor(request), "vote", event.ref)

    def judge(event: gr.EventData, request: gr.Request):
        return judge_by(actor(request), "faithful", event.ref)

    def judge_by(who: Actor, kind: str, ref: str) -> dict:
        try:
            # That nothing is wrong may take a correction back; a vote waits for no copy.
            note = chat.vote(who, ref) if kind == "vote" else services.durable.told(chat.faithful(who, ref))
        except TermsMissing:
            return {**terms.ask(who), waits: (kind, ref)}
        except Exception as error:
            return {message: shown.alert(*explain(error))}
        return {**show(chat.open(who), note), message: []}

    def agree_to(name: str, licence: str, consent: bool, then, read: str = "", request: gr.Request = None) -> dict:
        who = actor(request)
        closed, (kind, ref) = terms.keep(who, name, licence, consent, read), then
        return {**closed, waits: ("", ""), **(judge_by(who, kind, ref) if kind else {})}

    def close_terms():
        return gr.Column(visible=False)

    def put_beside(name: str | None, request: gr.Request) -> dict:
        return change(lambda who: services.models.put_beside(who, name or ""), request)

    def take_away(request: gr.Request) -> dict:
        return change(services.models.take_away, request)

    def share_last(request: gr.Request) -> dict:
        return show_shared(actor(request))

    streamed = [*columns, switch, left_voice, right_voice, others.listing, box, message, editing, seed]
    asking = (
        private(box.submit, ask, [box, editing], streamed, **MODEL),
        private(asked.select, suggest, None, streamed, **MODEL),
        private(again.click, regenerate, None, streamed, **MODEL),
    )
    private(box.stop, stop_all, queue=False)
    for event, function in ((edit.click, edit_last), (message.select, leave_edit)):
        script(private(event, function, None, [box, editing, message]).then, shown.FOCUS_QUESTION)
    private(picture.input, upload, picture, outputs)
    private(another.upload, add_another, another, outputs)
    private(draw.click, new_scene, None, outputs)
    private(examples.select, choose_example, None, outputs)
    private(strip.select, strip_action, None, outputs)
    for part in (left_voice, right_voice, *settings):
        private(part.input, choose, [left_voice, right_voice, *settings], outputs, trigger_mode="always_last")
    private(swap.click, swap_columns, None, outputs)
    private(new.click, start_over, None, [*outputs, editing])
    private(others.put.click, put_beside, others.name, outputs, **HUB)
    private(others.remove.click, take_away, None, outputs, **HUB)
    judged = [*columns, message, terms.column, *terms.fields, waits]
    script(private(votes.select, vote, None, judged).then, shown.FOCUS_TERMS)
    for side in (left, right):
        script(private(side.select, judge, None, judged, trigger_mode="multiple").then, shown.FOCUS_TERMS)
    agreed = private(terms.agree.click, agree_to, [*terms.fields, waits, terms.read], judged)
    for event in (agreed, private(terms.cancel.click, close_terms, None, terms.column)):
        script(event.then, shown.FOCUS_VOTES)
    private(share_it.click, share_last, None, shared)
    script(marks.input, "(on) => { document.body.classList.toggle('no-marks', !on); }", marks)

    asks, answered = (box.submit, asked.select), tuple(each.then for each in asking)
    return ChatTab(left, right, recorded, message, box, editing, asks, answered, outputs, refresh)
