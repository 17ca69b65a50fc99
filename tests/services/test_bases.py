"""Several bases: together where they fit, in turns where they do not, out of memory when nobody asks."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from rlhfv.corrections.conversation import ModelIdentity, Sampling
from rlhfv.errors import GenerationFailed, ModelUnavailable, NotFound
from rlhfv.models.fetching import Progress
from rlhfv.services import Actor, build_services, local_actor
from rlhfv.services.bases import Base, Bases, identify
from rlhfv.services.pins import Pins
from rlhfv.settings import Settings
from rlhfv.studio.waiting import waiting_note
from tests.services.fakes import ScriptedModel, scripted_entry
from tests.services.made_benchmark import make_pope
from tests.studio.conftest import texts

ROOM = 100


class Memory:
    """A machine with room for 100, and models that weigh what they are made with."""

    def __init__(self, monkeypatch, **sizes: int):
        self.sizes, self.inside, self.most, self.events = sizes, {}, 0, []
        self.slow, self.fetched, self.broken = 0.0, 0, set()
        monkeypatch.setattr("rlhfv.models.local.LocalModel.load", self.load)
        monkeypatch.setattr("rlhfv.services.bases.available_memory", lambda device: self.free)
        monkeypatch.setattr("rlhfv.services.bases.refuse_if_too_large", self.refuse)
        monkeypatch.setattr("rlhfv.services.bases.fetch_files", self.fetch)

    @property
    def free(self) -> int:
        return ROOM - sum(self.sizes[name] for name in self.inside)

    def refuse(self, entry, device, available):
        if self.sizes[entry.id] > available:
            raise ModelUnavailable(f"{entry.id} does not fit.", "It is too large.", "Take a smaller one.")

    def fetch(self, entry):
        """A folder of the snapshot; the newest commit has another name each time."""
        self.fetched += 1
        if entry.id in self.broken:
            raise ModelUnavailable(f"{entry.id} cannot be fetched.", "Its owner asks first.", "Accept it.")
        return Path(entry.revision or f"{self.fetched:040x}")

    def load(self, entry, **_):
        self.events.append(f"load {entry.id}")
        time.sleep(self.slow)
        self.refuse(entry, None, self.free)
        model = Weights(self, entry.id, entry.revision)
        self.inside[entry.id] = model
        self.most = max(self.most, len(self.inside))
        return model


class Weights(ScriptedModel):
    def __init__(self, memory: Memory, name: str, commit: str):
        super().__init__()
        self.memory, self.identity = memory, ModelIdentity(name, commit)
        size = memory.sizes[name]
        self.model = SimpleNamespace(parameters=lambda: [SimpleNamespace(nbytes=size)])

    def answer_both(self, rows, *rest):
        generated = yield from super().answer_both(rows, *rest)
        return tuple(replace(one, text=f"{self.identity.name}: {one.text}") for one in generated)

    def unload(self):
        self.memory.events.append(f"unload {self.identity.name}")
        assert not self.active, "somebody was still answered"
        del self.memory.inside[self.identity.name]


def make(tmp_path, *names: str) -> Bases:
    bases = Bases(Pins(tmp_path / "models.json"))
    bases.all += [Base(scripted_entry(id=name, title=name, source=name), name) for name in names]
    return bases


def test_bases_that_fit_together_are_in_memory_together(tmp_path, monkeypatch):
    memory = Memory(monkeypatch, a=40, b=60)
    bases = make(tmp_path, "a", "b")
    for base in (*bases.all, *bases.all):
        with bases.using(base) as model:
            assert model.identity.name == base.key
    assert memory.events == ["load a", "load b"] and not bases.take_turns


def test_bases_that_do_not_fit_together_take_turns_between_answers(tmp_path, monkeypatch):
    memory = Memory(monkeypatch, a=60, b=60)
    bases = make(tmp_path, "a", "b")
    first, second = bases.all
    order = []
    with bases.using(first):
        waiting = threading.Thread(target=lambda: enter(bases, second, order))
        waiting.start()
        time.sleep(0.1)
        assert order == [] and first.model is not None, "an answer under way is never cut for the other base"
        assert "take turns" in bases.status() and "Loading b" in bases.status()
    waiting.join(5)
    with bases.using(first):
        order.append("a")
    assert order == ["b", "a"]
    assert memory.events == ["load a", "unload a", "load b", "unload b", "load a"] and memory.most == 1


def enter(bases, base, order, seconds=0.0):
    with bases.using(base):
        order.append(base.key)
        time.sleep(seconds)


def test_nobody_starves_while_many_ask_two_bases_in_turn(tmp_path, monkeypatch):
    memory = Memory(monkeypatch, a=60, b=60)
    bases = make(tmp_path, "a", "b")
    order: list[str] = []
    threads = [
        threading.Thread(target=enter, args=(bases, bases.all[number % 2], order, 0.002)) for number in range(40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(order) == ["a"] * 20 + ["b"] * 20
    assert memory.most == 1 and len(memory.events) < 60, "whoever waits for the same base is served together"
    assert all(base.users == 0 for base in bases.all)


def test_what_fits_nowhere_takes_nothing_out(tmp_path, monkeypatch):
    memory = Memory(monkeypatch, a=60, huge=200)
    bases = make(tmp_path, "a", "huge")
    with bases.using(bases.all[0]):
        pass
    with pytest.raises(ModelUnavailable, match="does not fit"), bases.using(bases.all[1]):
        pass
    assert memory.events == ["load a"] and list(memory.inside) == ["a"]
    with bases.using(bases.all[0]):
        pass
    assert memory.events == ["load a"]


def test_what_cannot_be_fetched_takes_nothing_out(tmp_path, monkeypatch):
    memory = Memory(monkeypatch, a=60, b=60)
    memory.broken.add("b")
    bases = make(tmp_path, "a", "b")
    with bases.using(bases.all[0]):
        pass
    with pytest.raises(ModelUnavailable, match="cannot be fetched"), bases.using(bases.all[1]):
        pass
    assert memory.events == ["load a"] and bases.all[0].model is not None


def test_a_base_that_leaves_while_another_is_measured_is_not_taken_out_twice(tmp_path, monkeypatch):
    memory = Memory(monkeypatch, a=60, b=60)
    bases = make(tmp_path, "a", "b")
    with bases.using(bases.all[0]):
        pass
    fetch = memory.fetch
    monkeypatch.setattr("rlhfv.services.bases.fetch_files", lambda entry: bases.unload_idle(0) and fetch(entry))
    with bases.using(bases.all[1]) as model:
        assert model.identity.name == "b"
    assert memory.events == ["load a", "unload a", "load b"] and not bases.all[0].leaving


def test_a_base_keeps_its_commit_however_often_it_is_loaded(tmp_path, monkeypatch):
    Memory(monkeypatch, a=60, b=60)
    bases, found = make(tmp_path, "a", "b"), []
    for base in (*bases.all, *bases.all):
        with bases.using(base) as model:
            found.append(model.identity.revision)
    assert found[:2] == found[2:] and found[0] != found[1]


def test_a_commit_is_named_without_the_weights(tmp_path, monkeypatch):
    memory = Memory(monkeypatch, a=60)
    asked = []
    monkeypatch.setattr(
        "rlhfv.services.bases.download", lambda *what: asked.append(what) or Path("snapshots") / ("c" * 40)
    )
    bases = make(tmp_path, "a")
    assert identify(bases, bases.all[0]) == ModelIdentity("a", "c" * 40)
    assert asked == [("a", None, ("config.json",))] and memory.events == []
    with bases.using(bases.all[0]) as model:
        assert model.identity.revision == "c" * 40, "the weights are those of the commit that was named"
    pinned = Base(scripted_entry(revision="d" * 40))
    assert identify(bases, pinned).revision == "d" * 40 and len(asked) == 1


@pytest.mark.parametrize("others", [(), ("a",)])
def test_four_bit_bases_are_measured_beside_what_can_leave(tmp_path, monkeypatch, others):
    """The layers are told before anything leaves, so that they must not be refused for what is free just then."""
    memory = Memory(monkeypatch, a=60, b=60, huge=200)
    monkeypatch.setattr("rlhfv.services.bases.refuse_four_bit_if_too_large", memory.refuse)
    bases = make(tmp_path, *others, "b", "huge")
    for base in bases.all:
        base.options = lambda entry: {"quantisation": "nf4"}
    for base in bases.all[:-1]:
        with bases.using(base):
            pass
    assert bases.take_turns == bool(others) and memory.events[-1] == "load b"
    with pytest.raises(ModelUnavailable, match="huge does not fit"), bases.using(bases.all[-1]):
        pass


def test_one_base_is_used_while_the_other_is_loaded_beside_it(tmp_path, monkeypatch):
    memory = Memory(monkeypatch, a=40, b=40)
    bases = make(tmp_path, "a", "b")
    with bases.using(bases.all[0]):
        pass
    memory.slow = 0.5
    loading = threading.Thread(target=enter, args=(bases, bases.all[1], []))
    loading.start()
    time.sleep(0.1)
    begun = time.monotonic()
    with bases.using(bases.all[0]):
        assert time.monotonic() - begun < 0.2 and bases.all[1].model is None
    loading.join(5)
    assert bases.all[1].model is not None


def test_what_nobody_uses_leaves_and_comes_back_with_the_next_question(tmp_path, monkeypatch):
    memory = Memory(monkeypatch, a=40, b=40)
    bases = make(tmp_path, "a", "b")
    first, second = bases.all
    with bases.using(first), bases.using(second):
        assert bases.unload_idle(0) == [], "both are in use"
    assert bases.unload_idle(3600) == []
    second.last_used -= 7200
    assert bases.unload_idle(3600) == [second] and list(memory.inside) == ["a"]
    with bases.using(second) as model:
        assert model.identity.name == "b"
    first.stays = True
    first.last_used -= 7200
    assert bases.unload_idle(3600) == [], "what belongs to a borrowed GPU stays"


def test_leaving_while_others_ask_is_safe(tmp_path, monkeypatch):
    Memory(monkeypatch, a=40)
    bases = make(tmp_path, "a")
    ending, failures = threading.Event(), []

    def ask():
        while not ending.is_set():
            try:
                with bases.using(bases.all[0]) as model:
                    assert bases.all[0].model is model
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        bases.unload_idle(0)
    ending.set()
    for thread in threads:
        thread.join(5)
    assert failures == []


def test_who_gives_up_waiting_moves_no_model(tmp_path, monkeypatch):
    memory = Memory(monkeypatch, a=60, b=60)
    bases = make(tmp_path, "a", "b")
    with bases.using(bases.all[0]):
        stop = threading.Event()
        stop.set()
        with pytest.raises(GenerationFailed, match="stopped before"), bases.using(bases.all[1], stop.is_set):
            pass
    assert memory.events == ["load a"] and bases._waiting == []


# ---- in the studio


@pytest.fixture
def memory(monkeypatch):
    return Memory(monkeypatch, one=60, other=60)


@pytest.fixture
def studio(tmp_path, monkeypatch, memory):
    """Two bases that do not fit together, `one` and beside it `other`."""
    monkeypatch.setattr(
        "rlhfv.services.model_host.find_entry",
        lambda name, *_: scripted_entry(id=name, title=name.title(), source=name),
    )
    return build_services(Settings(data_dir=tmp_path, model="one", beside="other"))


def test_two_whole_models_answer_side_by_side_each_under_its_own_name(studio, memory, ada, picture):
    state = studio.chat.open(ada)
    assert (state.left, state.right) == ("", "base:other")
    assert [voice.title for voice in studio.host.voices(ada)] == ["Baseline", "Other: baseline"]
    studio.chat.set_images(ada, (studio.chat.add_image(ada, picture).name,))
    assert studio.chat.waits_for_loading(ada)
    *_, last = studio.chat.ask(ada, "What is it?", threading.Event())
    turn = last.turns[-1]
    answers = [studio.store.answer(reply.answer_id) for reply in (turn.left, turn.right)]
    assert [(answer.model.name, answer.model.adapter) for answer in answers] == [("one", None), ("other", None)]
    assert [answer.row_layout for answer in answers] == [("baseline",), ("baseline",)]
    assert memory.most == 1 and studio.host.bases.take_turns
    assert sorted(memory.events)[:2] == ["load one", "load other"]


def test_while_a_model_is_fetched_or_loaded_the_page_is_told_what_it_waits_for(
    studio, memory, ada, picture, monkeypatch
):
    monkeypatch.setattr("rlhfv.services.speaking.WAITING_SECONDS", 0.02)
    memory.slow = 0.2
    studio.chat.set_images(ada, (studio.chat.add_image(ada, picture).name,))
    told = [studio.chat.loading_status(ada) for _ in studio.chat.ask(ada, "What is it?", threading.Event())]
    assert {each[:13].split()[1] for each in told if each} == {"One", "Other"}, "whichever was first"
    assert any("take turns" in each for each in told)
    assert told[-1] == ""
    fetched = (Progress("a/b", 1_200_000_000, 4_400_000_000),)
    monkeypatch.setattr("rlhfv.services.bases.downloads", lambda: fetched)
    assert studio.chat.loading_status(ada) == "Downloading a/b: 1.2 GB of 4.4 GB"
    studio.host.bases.take_turns = False
    assert texts(waiting_note(studio.chat.open(ada), True, studio.chat.loading_status(ada))).startswith("Downloading")


def test_a_pair_belongs_to_the_model_that_answered(studio, ada, picture):
    studio.chat.set_images(ada, (studio.chat.add_image(ada, picture).name,))
    list(studio.chat.ask(ada, "What is it?", threading.Event()))
    studio.chat.vote(ada, "right")
    [pair] = studio.store.all_pairs()
    assert (pair.provenance.model.name, pair.provenance.chosen_model.name) == ("one", "other")


def test_hints_are_read_by_the_base_that_answered(studio, memory, ada, picture, monkeypatch):
    studio.chat.set_images(ada, (studio.chat.add_image(ada, picture).name,))
    *_, last = studio.chat.ask(ada, "What is it?", threading.Event())
    host = studio.host
    with host.bases.using(host.second):
        pass
    assert host.first.model is None
    answers = {side: getattr(last.turns[-1], side).answer_id for side in ("left", "right")}
    assert studio.hints.hints(ada, answers["left"]) == [], "its base is not in memory and is not loaded for that"
    studio.hints.hints(ada, answers["right"])
    assert memory.inside["other"].reads


def test_a_base_is_put_beside_and_taken_away_while_the_studio_runs(studio, ada, monkeypatch):
    with studio.host.bases.using(studio.host.second):
        pass
    studio.host.put_beside("other")
    assert studio.host.second.model is None and len(studio.host.bases.all) == 2
    studio.chat.choose(ada, "", "base:other", Sampling())
    studio.host.take_away()
    assert studio.chat.open(ada).right == "", "the conversation goes on without it"
    with pytest.raises(NotFound):
        studio.host.voice(ada, "base:other")
    with pytest.raises(ModelUnavailable, match="cannot stand beside"):
        studio.host.put_beside("one")


def test_the_watch_unloads_after_the_minutes_of_the_settings(studio, memory):
    assert studio.host.watch_idle() is None, "never, by default"
    studio.host.settings = replace(studio.host.settings, unload_after=0.0001)
    studio.host.model()
    watch = studio.host.watch_idle(look_seconds=0.01)
    until = time.monotonic() + 5
    while memory.inside and time.monotonic() < until:
        time.sleep(0.01)
    assert not memory.inside and not studio.host.loaded
    studio.host.close()
    watch.join(5)


def test_the_first_commit_of_a_known_model_is_noted_and_kept(tmp_path):
    pins, entry = Pins(tmp_path / "models.json"), replace_entry(known=True)
    assert pins.pin(entry).revision is None
    pins.note(entry, "a" * 40)
    pins.note(entry, "c" * 40)
    assert Pins(tmp_path / "models.json").pin(entry).revision == "a" * 40
    assert pins.pin(replace_entry(known=True, revision="b" * 40)).revision == "b" * 40
    assert pins.pin(replace_entry(known=False)).revision is None


def replace_entry(known: bool, revision: str | None = None):
    from rlhfv.models.catalog import Entry, find_entry

    if known:
        return find_entry("qwen2-vl-2b", revision)
    return Entry("a/b", "b", "a/b", is_local=False)


def test_the_four_bit_setting_is_refused_in_three_parts_where_it_cannot_work(tmp_path, monkeypatch):
    services = build_services(Settings(data_dir=tmp_path, model="smolvlm", base_weights="4-bit"))
    with pytest.raises(ModelUnavailable) as refusal:
        services.host.model()
    assert refusal.value.what and refusal.value.why and "bitsandbytes" in refusal.value.what + refusal.value.fix
    assert (
        build_services(Settings(data_dir=tmp_path, base_weights="4-bit")).host._load_options(
            services.host.entry.__class__("demo", "Demo", "x")
        )
        == {}
    )


def test_another_visitor_sees_the_same_bases(studio):
    assert [voice.id for voice in studio.host.voices(Actor("c" * 32))] == ["", "base:other"]


def test_one_that_fits_nowhere_leaves_those_that_are_there(studio, memory, ada):
    memory.sizes["huge"] = 200
    with pytest.raises(ModelUnavailable, match="huge does not fit"):
        studio.models.put_beside(ada, "huge")
    assert [base.entry.id for base in studio.host.others] == ["other"]


def test_four_bits_on_a_borrowed_gpu_are_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr("rlhfv.services.model_host.on_zero_gpu", lambda: True)
    services = build_services(Settings(data_dir=tmp_path, model="smolvlm", base_weights="4-bit"))
    with pytest.raises(ModelUnavailable, match="in 4 bits") as refusal:
        services.host.hand_over()
    assert "--base-weights" in refusal.value.fix


def test_both_models_answer_a_benchmark_each_under_its_own_name(studio, memory):
    bench = studio.benchmarking
    make_pope(bench.root, 4)
    ids = [[*bench.answer(local_actor(), "pope-random", voice)][-1].id for voice in ("", "base:other")]
    sets = [bench.answer_set(local_actor(), id) for id in ids]
    assert [(one.stamp.model.name, one.voice, one.done) for one in sets] == [
        ("one", "", 4),
        ("other", "base:other", 4),
    ]
    assert bench.compare(local_actor(), *ids).flips.broken == 0
