import json
import shutil
import threading
import time
from itertools import pairwise

import pytest
import torch

from rlhfv.corrections.conversation import Sampling
from rlhfv.errors import GenerationFailed, InvalidImage, ModelUnavailable
from rlhfv.models.local import LocalModel, Row, answer_both, load_model
from tests.models.conftest import (
    FAMILIES,
    GREEDY,
    SAMPLED,
    finish,
    generate,
    hook_count,
    one_turn,
    two_turns,
)
from tests.models.tiny import build_llava

LONG = Sampling(max_new_tokens=1500)


# ---- streaming


@pytest.mark.parametrize("family", FAMILIES)
def test_streamed_texts_end_as_the_answers(loaded, pictures, family):
    model, adapter = loaded[family]
    rows = [Row(None, one_turn(pictures[0])), Row(adapter, one_turn(pictures[0]))]
    answers, streamed = finish(answer_both(model, rows, GREEDY))
    assert streamed[-1] == tuple(answer.text for answer in answers)
    assert len(streamed) > 3
    assert all(len(texts) == 2 for texts in streamed)
    assert [answer.text for answer in answers] == [
        model.tokenizer.decode(answer.tokens, skip_special_tokens=True) for answer in answers
    ]


def test_a_row_that_ends_first_is_finished_and_the_other_goes_on(folders, pictures):
    """The end-of-text ids are a list; what the shorter row is fed afterwards is not part of its answer."""
    model = load_model(str(folders["llava"]), [folders["llava-adapter"]])
    adapter = next(iter(model.adapters()))
    rows = [Row(None, one_turn(pictures[0])), Row(adapter, one_turn(pictures[0]))]
    free = generate(model, rows)
    end = next(token for token in free[0].tokens[5:] if token not in free[1].tokens)
    model.unload()
    folder = folders["llava"].parent / "llava-with-ends"
    shutil.copytree(folders["llava"], folder)
    settings = folder / "generation_config.json"
    settings.write_text(settings.read_text().replace('"eos_token_id": 321', f'"eos_token_id": [321, {end}]'))
    model = load_model(str(folder), [folders["llava-adapter"]])
    both = generate(model, rows)
    assert both[0].tokens == free[0].tokens[: free[0].tokens.index(end)]
    assert both[1].tokens == free[1].tokens
    assert [answer.finished for answer in both] == [True, False]
    model.unload()


def test_the_makers_sampling_settings_do_not_leak_in(folders, pictures, tmp_path):
    folder = shutil.copytree(folders["llava"], tmp_path / "llava")
    settings = folder / "generation_config.json"
    theirs = {"do_sample": True, "temperature": 5.0, "top_k": 3, "min_p": 0.1, "num_beams": 3, "max_length": 20}
    settings.write_text(json.dumps(json.loads(settings.read_text()) | theirs))
    model, plain = load_model(str(folder)), load_model(str(folders["llava"]))
    row = [Row(None, one_turn(pictures[0]))]
    assert generate(model, row)[0].tokens == generate(plain, row)[0].tokens
    model.unload()
    plain.unload()


def test_seeds_repeat_and_differ(llava, pictures):
    model, adapter = llava
    rows = [Row(None, one_turn(pictures[0])), Row(adapter, one_turn(pictures[0]))]
    first, again = generate(model, rows, SAMPLED), generate(model, rows, SAMPLED)
    assert first == again
    other = generate(model, rows, Sampling(temperature=1.0, top_p=0.9, max_new_tokens=24, seed=8))
    assert other[0].tokens != first[0].tokens


# ---- stopping, failing, and what is left of it


def wait_for_text(answers):
    return next(texts for texts in answers if any(texts))


def test_stop_ends_both_rows_and_leaves_no_hooks(llava, pictures):
    model, adapter = llava
    rows = [Row(None, one_turn(pictures[0])), Row(adapter, one_turn(pictures[0]))]
    expected, hooks, stop = generate(model, rows), hook_count(model), threading.Event()
    answers = model.answer_both(rows, LONG, stop=stop)
    wait_for_text(answers)
    stop.set()
    stopped, _ = finish(answers)
    assert all(0 < len(answer.tokens) < 1000 and not answer.finished for answer in stopped)
    assert hook_count(model) == hooks
    assert generate(model, rows) == expected


def test_closing_the_generator_stops_the_thread(llava, pictures):
    model, adapter = llava
    answers = model.answer_both([Row(None, one_turn(pictures[0])), Row(adapter, one_turn(pictures[0]))], LONG)
    wait_for_text(answers)
    started = time.monotonic()
    answers.close()
    generate(model, [Row(None, one_turn(pictures[0]))], Sampling(max_new_tokens=1))
    assert time.monotonic() - started < 2, "the next answer had to wait for the whole of the abandoned one"
    assert hook_count(model) == 0


def test_a_stopped_answer_that_waits_its_turn_is_never_made(llava, pictures):
    model, _ = llava
    row = [Row(None, one_turn(pictures[0]))]
    first, stop = model.answer_both(row, LONG), threading.Event()
    wait_for_text(first)
    stop.set()
    waiting, _ = finish(model.answer_both(row, LONG, stop=stop))
    assert (waiting[0].text, waiting[0].finished, waiting[0].row_layout) == ("", False, ())
    first.close()


def fail_in_layer(model, after: int):
    """Makes the last text layer raise on its call number `after`; returns the handle that ends it."""
    calls = iter(range(10**6))

    def explode(*_):
        if next(calls) == after:
            raise RuntimeError("a layer broke")

    return model.model.get_decoder().layers[-1].register_forward_hook(explode)


@pytest.mark.parametrize("after", [0, 5], ids=["in the prompt", "in the answer"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_exception_inside_leaves_no_hooks_and_the_next_call_right(loaded, pictures, family, after):
    model, adapter = loaded[family]
    rows = [Row(None, one_turn(pictures[0])), Row(adapter, one_turn(pictures[0]))]
    expected, hooks = generate(model, rows), hook_count(model)
    handle = fail_in_layer(model, after)
    with pytest.raises(GenerationFailed, match="a layer broke"):
        generate(model, rows)
    handle.remove()
    assert hook_count(model) == hooks
    assert generate(model, [rows[1]])[0].tokens == expected[1].tokens, "one row after two: stale names would raise"
    assert generate(model, rows) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_an_exception_in_the_tower_leaves_both_voices_right(loaded, pictures, tmp_path, family):
    """The image is encoded in the baseline's voice: the adapter has to be on again afterwards."""
    model, adapter = loaded[family]
    picture = shutil.copy(pictures[0], tmp_path / "new.png")
    rows = [Row(None, one_turn(pictures[0])), Row(adapter, one_turn(pictures[0]))]
    expected = [answer.tokens for answer in generate(model, rows)]
    tower = next(module for name, module in model.model.named_modules() if "vision" in name or "visual" in name)

    def explode(*_):
        raise RuntimeError("the tower broke")

    handle = tower.register_forward_hook(explode)
    with pytest.raises(GenerationFailed, match="the tower broke"):
        generate(model, [Row(row.voice, one_turn(picture)) for row in rows])
    handle.remove()
    again = generate(model, [Row(row.voice, one_turn(picture)) for row in rows])
    assert [answer.tokens for answer in again] == expected
    assert generate(model, [rows[1]])[0].tokens == expected[1]


def test_a_model_that_is_unloaded_in_the_middle_of_a_batch_says_so(folders, pictures):
    """Nobody stopped it: whoever asked would take what is missing for answered."""
    model, began = load_model(str(folders["llava"])), threading.Event()
    model.model.get_decoder().register_forward_hook(lambda *_: began.set())
    outcome = []

    def ask():
        try:
            outcome.append(model.answer_many([one_turn(pictures[0])] * 2, None, LONG))
        except ModelUnavailable as error:
            outcome.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    assert began.wait(10)
    model.unload()
    asking.join(10)
    assert "not in memory" in str(outcome[0])


def test_peft_alone_would_leave_its_hooks(folders, pictures):
    """The pitfall that `hooks_restored` is for: without it this is what remains."""
    from rlhfv.models.prompts import encode_prompt

    model = load_model(str(folders["llava"]), [folders["llava-adapter"]])
    inputs = encode_prompt(model.processor, one_turn(), lambda name: name)
    batch = {name: value.repeat(2, 1) for name, value in inputs.items()}
    names = ["__base__", next(iter(model.adapters().values())).name]
    handle = fail_in_layer(model, 0)
    with pytest.raises(RuntimeError):
        model._engine._peft.generate(**batch, adapter_names=names, max_new_tokens=2)
    handle.remove()
    assert hook_count(model) > 0
    model.unload()


def test_a_failure_of_the_streamer_is_told_and_leaves_no_hooks(llava, pictures, monkeypatch):
    model, adapter = llava
    rows = [Row(None, one_turn(pictures[0])), Row(adapter, one_turn(pictures[0]))]
    expected = generate(model, rows)

    def fail():
        raise OSError("nobody listens")

    with pytest.raises(GenerationFailed, match="nobody listens"):
        model._engine.answer(rows, LONG, lambda name: name, [0, 0], lambda: False, on_token=fail)
    assert hook_count(model) == 0
    assert generate(model, rows) == expected


def test_out_of_memory_is_told_as_such(llava, pictures, monkeypatch):
    model, _ = llava

    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model._engine, "_generate", fail)
    with pytest.raises(GenerationFailed, match="ran out of memory"):
        generate(model, [Row(None, one_turn(pictures[0]))])


def test_a_missing_image_and_a_conversation_too_long_are_told(llava, pictures):
    model, _ = llava
    with pytest.raises(InvalidImage):
        generate(model, [Row(None, one_turn("/no/such/image.png"))])
    with pytest.raises(GenerationFailed, match="reads 2048 tokens at most"):
        generate(model, [Row(None, one_turn(pictures[0], question="zebra " * 2000))])
    near_the_end = generate(model, [Row(None, one_turn(question="q" * 2020))], LONG)[0]
    assert 0 < len(near_the_end.tokens) < 30


def test_one_or_two_rows():
    with pytest.raises(ValueError, match="one or two"):
        next(answer_both(load_stub(), []))


def load_stub():
    from rlhfv.models.local import LocalModel

    return object.__new__(LocalModel)


# ---- many prompts, many visitors


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("voice", [False, True], ids=["baseline", "adapter"])
def test_answer_many_equals_one_by_one(loaded, pictures, family, voice):
    model, adapter = loaded[family]
    voice = adapter if voice else None
    prompts = [
        one_turn(pictures[0]),
        one_turn(pictures[1], question="how many cars are there in the street?"),
        two_turns(pictures[0]),
        one_turn(),
        one_turn(pictures[0], question="yes?"),
    ]
    done = []
    short = Sampling(max_new_tokens=20)
    answers = model.answer_many(prompts, voice, short, batch_size=3, progress=lambda *of: done.append(of))
    assert answers == [generate(model, [Row(voice, prompt)], short)[0].text for prompt in prompts]
    assert done == [(3, 5), (5, 5)]


def test_answer_many_samples_each_prompt_with_its_own_seed(llava, pictures):
    model, _ = llava
    sampling = Sampling(temperature=1.0, max_new_tokens=15, seed=3)
    answers = model.answer_many([one_turn(pictures[0])] * 4, None, sampling, batch_size=2)
    expected = [
        generate(model, [Row(None, one_turn(pictures[0]))], Sampling(temperature=1.0, max_new_tokens=15, seed=seed))
        for seed in range(3, 7)
    ]
    assert answers == [answer[0].text for answer in expected]
    assert len(set(answers)) == 4


def test_answer_many_stops_between_batches(llava, pictures):
    model, _ = llava
    stop = threading.Event()
    answers = model.answer_many(
        [one_turn(pictures[0])] * 6,
        None,
        Sampling(max_new_tokens=3),
        batch_size=2,
        progress=lambda *_: stop.set(),
        stop=stop,
    )
    assert len(answers) == 2


def test_twenty_visitors_are_served_in_turn_while_an_evaluation_runs(llava, pictures, monkeypatch):
    model, adapter = llava
    prompts = [one_turn(pictures[number % 2], question=f"question {number}") for number in range(20)]
    short = Sampling(max_new_tokens=8)
    expected = [generate(model, [Row(None, prompt), Row(adapter, prompt)], short) for prompt in prompts]
    asked, served, got = [], [], {}
    submit, lock = model._worker.submit, threading.Lock()

    def submit_and_note(work):
        name = threading.current_thread().name
        with lock:  # what is noted is the true order
            asked.append(name)
            return submit(lambda: (served.append(name), work())[1])

    monkeypatch.setattr(model._worker, "submit", submit_and_note)
    stop = threading.Event()
    evaluation = threading.Thread(
        name="evaluation",
        target=model.answer_many,
        args=([prompts[0]] * 100_000, None, short),
        kwargs={"batch_size": 4, "stop": stop},
    )
    evaluation.start()

    def visit(number):
        got[number] = generate(model, [Row(None, prompts[number]), Row(adapter, prompts[number])], short)

    visitors = [threading.Thread(target=visit, args=(number,), name=str(number)) for number in range(20)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join(timeout=120)
    stop.set()
    evaluation.join(timeout=120)
    assert [got[number] for number in range(20)] == expected, "no answers are mixed up"
    assert served == asked, "first come, first served"
    visits = [place for place, name in enumerate(served) if name != "evaluation"]
    assert all(later - earlier <= 2 for earlier, later in pairwise(visits)), "one batch at most between two visitors"


def test_an_unloaded_model_says_so_and_stops_what_was_going_on(folders, pictures):
    model = load_model(str(folders["llava"]))
    answers = model.answer_both([Row(None, one_turn(pictures[0]))], LONG)
    wait_for_text(answers)
    waiting = model.answer_both([Row(None, one_turn(pictures[0]))], LONG)
    outcome = []

    def wait():
        try:
            finish(waiting)
        except ModelUnavailable as error:
            outcome.append(error)

    visitor = threading.Thread(target=wait)
    visitor.start()
    time.sleep(0.05)
    model.unload()
    visitor.join(timeout=10)
    assert "not in memory" in str(outcome[0])
    stopped, _ = finish(answers)
    assert not stopped[0].finished
    for use in (lambda: generate(model, [Row(None, one_turn())]), lambda: model.attach(folders["llava-adapter"])):
        with pytest.raises(ModelUnavailable, match="not in memory"):
            use()
    assert model.adapters() == {}


def test_tied_embeddings_count_as_present(tmp_path, pictures):
    folder = build_llava(tmp_path / "tied", tie=True)
    model = load_model(str(folder))
    assert generate(model, [Row(None, one_turn(pictures[0]))])[0].tokens
    model.unload()


@pytest.mark.parametrize(
    ("target", "quantisation", "placed"),
    [("cuda", None, {"": torch.device("cuda")}), ("cpu", None, None), ("cuda", object(), None)],
)
def test_weights_go_straight_to_the_gpu(monkeypatch, target, quantisation, placed):
    given = {}

    def load(folder, **options):
        given.update(options)
        raise OSError("far enough")

    monkeypatch.setattr("rlhfv.models.catalog.choose_device", lambda name: torch.device(target))
    monkeypatch.setattr("rlhfv.models.catalog.refuse_if_too_large", lambda *_: (torch.float32, None))
    monkeypatch.setattr("rlhfv.models.local.AutoModelForImageTextToText.from_pretrained", load)
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        LocalModel.load("demo", quantisation=quantisation)
    assert given.get("device_map") == placed
