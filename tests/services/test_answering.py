import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest

from rlhfv.corrections.conversation import Prompt, Sampling
from rlhfv.corrections.store import Store
from rlhfv.corrections.tasks import EVERYBODY, NewTask
from rlhfv.errors import Forbidden, GenerationFailed, InvalidData, NotFound
from rlhfv.models.demo.world import DemoWorld
from rlhfv.services.actor import local_actor
from tests.services.fakes import ScriptedModel

ME = local_actor()


@pytest.fixture
def tasks(services, picture):
    """Ten tasks about one picture."""
    name = services.corrections.shelf.intake(picture).name
    services.queue.add(ME, [NewTask(Prompt(f"Question {number}?", (name,))) for number in range(10)])
    return services.queue.unanswered(ME)


def count_answers(store: Store) -> int:
    return store._connection.execute("SELECT count(*) FROM answers").fetchone()[0]


def test_every_waiting_task_is_answered_once(services, tasks):
    states = list(services.answering.write(ME, batch_size=4))
    assert [(state.done, state.total, state.written) for state in states] == [
        (0, 10, 0),
        (4, 10, 4),
        (8, 10, 8),
        (10, 10, 10),
    ]
    assert services.queue.unanswered(ME) == []
    answers = [services.store.answer(task.answer_id) for task in services.queue.tasks(ME)]
    assert [answer.text for answer in answers] == [f"baseline says: Question {number}?" for number in range(10)]
    assert {answer.visitor for answer in answers} == {EVERYBODY}
    assert list(services.answering.write(ME)) == [replace(states[0], total=0)]


def test_a_batch_is_kept_before_the_next_begins(services, tasks):
    running = services.answering.write(ME, batch_size=3)
    next(running), next(running)
    assert len(Store(services.store.path).unanswered()) == 7
    running.close()
    assert [state.written for state in services.answering.write(ME, batch_size=3)][-1] == 7


def test_answers_are_stored_with_what_repeats_them(services, tasks):
    list(services.answering.write(ME, sampling=Sampling(temperature=1.0, seed=5), batch_size=4))
    answers = [services.store.answer(task.answer_id) for task in services.queue.tasks(ME)]
    assert [(answer.row, answer.sampling.seed, len(answer.row_layout)) for answer in answers[:5]] == [
        (0, 5, 4),
        (1, 6, 4),
        (2, 7, 4),
        (3, 8, 4),
        (0, 5, 4),
    ]


def test_a_task_that_fails_is_told_and_left_waiting(services, tasks, monkeypatch):
    answer = ScriptedModel.answer_many

    def fail_at_six(self, prompts, *arguments, **named):
        if any("6" in prompt.question for prompt in prompts):
            raise GenerationFailed("The conversation is too long.", "It does not fit.", "Shorten it.")
        return answer(self, prompts, *arguments, **named)

    monkeypatch.setattr(ScriptedModel, "answer_many", fail_at_six)
    *_, state = services.answering.write(ME, batch_size=4)
    assert (state.done, state.written) == (10, 9)
    assert [failure.task_id for failure in state.failures] == [tasks[6].id]
    assert [task.id for task in services.queue.unanswered(ME)] == [tasks[6].id]
    monkeypatch.undo()


def test_two_at_once_leave_one_answer_each(services, tasks):
    written = []

    def work():
        *_, state = services.answering.write(ME, batch_size=2)
        written.append(state.written)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(written) == 10
    assert count_answers(services.store) == 10
    answers = [services.store.answer(task.answer_id) for task in services.queue.tasks(ME)]
    assert Counter(answer.prompt.question for answer in answers) == {f"Question {n}?": 1 for n in range(10)}


def test_refusals(services, tasks, ada):
    with pytest.raises(Forbidden):
        next(services.answering.write(replace(ada, rights=frozenset({"chat", "annotate"}))))
    with pytest.raises(InvalidData, match="batch"):
        next(services.answering.write(ME, batch_size=0))
    with pytest.raises(InvalidData, match="temperature"):
        next(services.answering.write(ME, sampling=Sampling(temperature=9)))
    with pytest.raises(NotFound):
        list(services.answering.write(ME, voice="nobody"))


@pytest.mark.slow
def test_killed_midway_no_answer_is_missing_or_doubled(tmp_path):
    """200 pictures, two questions each, by the demo model; `kill -9` twice."""
    (tmp_path / "pictures").mkdir()
    for seed in range(200):
        (tmp_path / "pictures" / f"{seed}.png").write_bytes(DemoWorld().draw("validation", seed)[0])
    command = [sys.executable, "-m", "rlhfv"]
    data = ["--data-dir", str(tmp_path / "data")]
    questions = ["--question", "Describe this image in detail.", "--question", "Is there a cup in the picture?"]
    subprocess.run([*command, "tasks", "add", str(tmp_path / "pictures"), *questions, *data], check=True)
    store = Store(tmp_path / "data" / "studio.sqlite3")
    for left in (320, 120):
        process = subprocess.Popen([*command, "answer", *data])
        while store.count_tasks().unanswered > left:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert 0 < store.count_tasks().unanswered <= left
    subprocess.run([*command, "answer", *data], check=True)
    assert store.unanswered() == []
    assert count_answers(store) == 400
    answers = [store.answer(task.answer_id) for task in store.tasks(limit=1000)]
    asked = Counter((answer.prompt.images, answer.prompt.question) for answer in answers)
    assert len(asked) == 400 and set(asked.values()) == {1}
