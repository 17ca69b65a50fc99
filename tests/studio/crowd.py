"""Scripted visitors of a running studio, over HTTP as their browsers would speak it, each from their own network."""

import json
import re
import secrets
import statistics
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx

MARK = re.compile(r"I am visitor (\d+)\.")
PICTURE = re.compile(r"[0-9a-f]{64}\.(?:png|jpg|webp)")
ANSWER = re.compile(r'"data-ref": ?"([0-9a-f]{32})"')
PLACE = re.compile(r"You are (\d+)(?:st|nd|rd|th)(?:; about \d+ (?:s|min))?")
REFUSED = re.compile(
    r"(Too many [a-z ]+ just now|(?:questions? from your network|of your questions|people) are waiting)"
)
TOLD_WHEN = re.compile(r"Wait (?:until one is answered|a minute|\d+ (?:second|minute)s?\b)")
TOO_OFTEN = "Too many questions were asked by you just now"
AT_ONCE = "people are waiting"
ASKED = "Is there a cup? I am visitor {}. {}"


@dataclass
class Seen:
    """What all visitors saw. `strange` is what must not be: another's question, picture or pair, or a failure."""

    waits: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    strange: list[str] = field(default_factory=list)
    saved: int = 0
    stopped: int = 0

    def report(self) -> str:
        def p95(values: list[float]) -> str:
            return f"{statistics.quantiles(values, n=20)[-1]:.1f} s" if len(values) > 1 else "none"

        refused = ", ".join(f"{count} × “{why}”" for why, count in self.refusals.most_common()) or "none"
        return (
            f"{len(self.answers)} questions answered, {self.stopped} stopped while they waited, {self.saved} "
            f"corrections saved; polite refusals: {refused}; queue wait p95 {p95(self.waits)}, "
            f"answer time p95 {p95(self.answers)}; {len(self.places)} places told, up to {max(self.places, default=0)}"
        )


class Tab:
    """One open page: its cookie is its visitor's, its session its own."""

    def __init__(self, client: httpx.Client, config: dict):
        self.client, self.session = client, secrets.token_hex(5)
        self.events = {}
        ids = {part["id"]: part["props"].get("elem_id") for part in config["components"]}
        for function in config["dependencies"]:
            for target, event in function["targets"]:
                self.events.setdefault((ids.get(target), event), (function["id"], len(function["inputs"])))

    def send(self, element: str, event: str, *data):
        """Fires an event; yields what the server says of it until it is done. Raises AssertionError on a failure."""
        function, inputs = self.events[element, event]
        values = [*data, *[None] * (inputs - len(data))]
        body = {"data": values, "fn_index": function, "session_hash": self.session, "event_data": None}
        self.client.post("/gradio_api/queue/join", json=body).raise_for_status()
        with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    message = json.loads(line[5:])
                    yield line
                    if message["msg"] == "process_completed":
                        assert message["success"], message
                        return
        raise AssertionError("the stream ended early")

    def run(self, element: str, event: str) -> None:
        """Fires an event that does not wait in the page's queue, such as the stop button."""
        body = {"data": [], "fn_index": self.events[element, event][0], "session_hash": self.session}
        self.client.post("/gradio_api/run/predict", json=body).raise_for_status()


class Visitor:
    """`known` is a cookie and the picture that its owner has put into the chat; without one the visitor opens the page
    and takes a new scene."""

    def __init__(self, address: str, number: int, config: dict, known: tuple[str, str] | None = None):
        network = {"x-forwarded-for": f"8.{number // 250}.{number % 250}.8"}
        self.client = httpx.Client(base_url=address, timeout=600, headers=network)
        self.number, self.seen, self.tab = number, Seen(), Tab(self.client, config)
        self.pictures: set[str] = set()
        if known:
            self.client.headers["cookie"] = known[0]
            self.pictures = {known[1]}
            return
        self.client.get("/").raise_for_status()
        self.take_scene()

    def take_scene(self) -> None:
        """A new conversation about a new picture."""
        list(self.tab.send("new-conversation", "click"))
        for line in self.tab.send("new-scene", "click"):
            self.pictures |= set(PICTURE.findall(line))

    def ask(self, number: int, hurried: bool = False) -> str:
        """Asks, and looks at everything that comes back; who is `hurried` presses stop when told to wait. Returns the
        id of an answer; "" after a refusal or a stop."""
        begun, heard, answer, place = time.monotonic(), 0.0, "", 0
        lines = []
        for line in self.tab.send("question", "submit", ASKED.format(self.number, number), False):
            lines.append(line)
            if not heard and "caret" in line:
                heard = time.monotonic() - begun
            for found in PLACE.findall(line):
                if hurried and not place:
                    self.press_stop()
                place = int(found)
                self.seen.places.append(place)
            answer = (ANSWER.findall(line) or [answer])[0]
        whole = "".join(lines)
        if others := set(MARK.findall(whole)) - {str(self.number)}:
            self.seen.strange.append(f"visitor {self.number} saw the questions of {others}")
        if others := set(PICTURE.findall(whole)) - self.pictures:
            self.seen.strange.append(f"visitor {self.number} saw the pictures {others}")
        if refused := REFUSED.search(whole):
            self.seen.refusals[refused[1]] += 1
            if not TOLD_WHEN.search(whole):
                self.seen.strange.append(f"a refusal does not say until when: {whole[refused.start() :][:300]}")
            if "what you typed is kept" not in whole or ASKED.format(self.number, number) not in lines[-2] + lines[-1]:
                self.seen.strange.append(f"a refusal took what visitor {self.number} had typed: {whole[:300]}")
            return ""
        if "alert" in whole or "failed" in whole:
            self.seen.strange.append(f"visitor {self.number} met a failure: {whole[-1500:]}")
        if not hurried:
            self.seen.waits.append(heard or time.monotonic() - begun)
        if heard and answer:
            self.seen.answers.append(time.monotonic() - begun)
        else:
            self.seen.stopped += 1
        return answer if heard else ""

    def correct(self, answer: str, agree: str) -> None:
        edit = {"start": 0, "end": 1, "replacement": f"Visitor {self.number}: i", "kind": "other"}
        told = self.call("correct", answer, [edit], "cc-by-4.0", False, agree)
        if "pair_id" in told:
            self.seen.saved += 1
        elif refused := REFUSED.search(told):
            self.seen.refusals[refused[1]] += 1
        else:
            self.seen.strange.append(f"visitor {self.number} could not correct: {told}")

    def take_away(self) -> None:
        told = self.call("export")
        if others := set(MARK.findall(told)) - {str(self.number)}:
            self.seen.strange.append(f"visitor {self.number} was given the pairs of {others}")

    def call(self, name: str, *data) -> str:
        begun = self.client.post(f"/gradio_api/call/{name}", json={"data": data}).raise_for_status().json()
        return self.client.get(f"/gradio_api/call/{name}/{begun['event_id']}").text

    def press_stop(self) -> None:
        self.tab.run("question", "stop")


def come(address: str, count: int, known: list[tuple[str, str]] | None = None) -> list[Visitor]:
    config = httpx.get(f"{address}/config", timeout=60).json()
    return [Visitor(address, number, config, known[number] if known else None) for number in range(count)]


def visit(
    people: list[Visitor],
    seconds: float,
    think: float,
    greedy: int = 0,
    hurried: int = 0,
    agree: str = "",
    scene_after: int = 0,
) -> Seen:
    """All ask at once and stay for `seconds`, thinking `think` seconds after an answer; the first `greedy` of them do
    not think. After every `scene_after` answers, if given, they take a new scene. At the end whoever still waits
    presses stop. The first `hurried` do not wait at all, and do not leave before they were told that this is too
    often, or half a minute later."""
    seen, until = Seen(), time.monotonic() + seconds

    def stay(person: Visitor) -> None:
        person.seen, question, answered = seen, 0, 0
        try:
            while (now := time.monotonic()) < until or (
                person.number < hurried and not seen.refusals[TOO_OFTEN] and now < until + 30
            ):
                answer = person.ask(question, hurried=person.number < hurried)
                question += 1
                answered += bool(answer)
                if answer and scene_after and answered % scene_after == 0:
                    person.take_scene()
                if answer and question % 3 == 1:
                    person.correct(answer, agree)
                pause = 0.2 if person.number < greedy else think * (0.5 + (person.number * 7 + question) % 10 / 10)
                time.sleep(max(0.0, min(pause, until - time.monotonic())))
            person.take_away()
        except Exception as error:
            seen.strange.append(f"visitor {person.number}: {type(error).__name__}: {error}")

    threads = [threading.Thread(target=stay, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    for thread, person in zip(threads, people, strict=True):
        thread.join(max(0.0, until - time.monotonic()))
        if thread.is_alive():
            person.press_stop()
    for thread in threads:
        thread.join(120)
    return seen
