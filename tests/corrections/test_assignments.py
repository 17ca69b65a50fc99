"""Who gets which task: one first correction each, whatever happens at the same moment."""

import pytest

from rlhfv.corrections.conversation import Prompt, fingerprint
from rlhfv.corrections.edits import Edit
from rlhfv.corrections.pairs import pair_id
from rlhfv.corrections.reviews import Person
from rlhfv.corrections.store import Store
from rlhfv.corrections.tasks import NewTask, share_of
from rlhfv.errors import NotFound
from tests.corrections.processes import let_go, start_process

NOW = 1_000_000.0
LATER = NOW + 1800


@pytest.fixture
def queue(tmp_path, make_answer, make_pair, make_judgement):
    """A team's store with five open tasks "a0" to "a4", and what an annotator does with them."""

    class Queue:
        def __init__(self):
            self.store, self.judged = Store(tmp_path / "studio.db", team=True), 0
            self.fill(5)

        def fill(self, count, gold=None, prefix="a"):
            def task(index):
                prompt = Prompt(f"{prefix}{index}?")
                answer = make_answer(f"{prefix}{index}", "A red dog.", prompt=prompt)
                return NewTask(prompt, answer=answer, gold=gold)

            return self.store.add_tasks(map(task, range(count))).ids

        def next(self, visitor, after=None, now=NOW, **shares):
            return self.store.next_work(visitor, now, now + 1800, after, **shares)

        def next_answer(self, *arguments, **named):
            work = self.next(*arguments, **named)
            return work and work.answer_id

        def judge(self, visitor, answer, outcome="corrected", chosen="A red cat."):
            self.judged += 1
            judgement = make_judgement(f"j{self.judged}", answer, outcome=outcome, annotator=visitor.title())
            pair = make_pair(self.store.answer(answer), chosen, visitor) if outcome == "corrected" else None
            return self.store.save(judgement, pair, visitor).pair

    return Queue()


def test_each_annotator_gets_another_task_and_keeps_it(queue):
    assert [queue.next_answer(name) for name in ("ann", "bob", "cat")] == ["a0", "a1", "a2"]
    again = queue.next("ann")
    assert (again.answer_id, again.reason, again.blind, again.until) == ("a0", "reserved", False, LATER)
    assert queue.store.elsewhere("ann", NOW).count == 2
    assert queue.store.elsewhere("ann", NOW).until == LATER
    assert queue.store.elsewhere("ann", LATER).count == 0


def test_leaving_an_item_gives_it_back_unless_there_is_a_draft(queue):
    assert queue.next_answer("ann") == "a0"
    assert queue.next_answer("ann", "a0") == "a1"
    assert queue.next_answer("bob") == "a0"
    queue.store.save_draft("ann", "a1", {"edits": []})
    assert queue.next_answer("ann", "a1") == "a2"
    assert queue.next_answer("cat") == "a3"
    assert queue.next_answer("ann") == "a1"  # the draft waits
    queue.store.release("a1", "ann")
    assert queue.next_answer("cat", "a3") == "a4"
    assert queue.next_answer("cat", "a4") == "a1"  # round to the beginning


def test_after_the_last_one_it_goes_round_and_ends_where_nothing_else_is_left(queue):
    seen = ["a0"]
    for _ in range(5):
        seen.append(queue.next_answer("ann", seen[-1]))
    assert seen == ["a0", "a1", "a2", "a3", "a4", "a0"]
    for answer in ("a1", "a2", "a3", "a4"):
        queue.judge("bob", answer)
    assert queue.next_answer("ann", "a0") is None
    assert queue.next_answer("ann") == "a0"
    assert queue.next_answer("ann", "forged") == "a0"


def test_an_expired_reservation_goes_to_the_next_and_late_work_is_kept(queue):
    assert queue.next_answer("ann") == "a0"
    assert queue.next_answer("bob", now=NOW + 1799) == "a1"
    assert queue.next_answer("cat", now=LATER) == "a0"
    late = queue.judge("ann", "a0")
    first = queue.judge("cat", "a0", chosen="A blue dog.")
    assert queue.store.pair(late.id).chosen == "A red cat." and first.chosen == "A blue dog."
    assert queue.store.task_of_answer("a0").due == ""
    assert {each.visitors for each in queue.store.double_work()} == {("cat", "ann")}


def test_nobody_takes_over_what_nobody_else_wanted(queue):
    assert queue.next_answer("ann") == "a0"
    again = queue.next("ann", now=LATER + 999)
    assert (again.answer_id, again.until) == ("a0", LATER + 999 + 1800)


def test_a_draft_renews_the_reservation_from_half_time_on(queue):
    def until():
        return queue.store._connection.execute("SELECT until FROM assignments").fetchone()[0]

    queue.next("ann")
    queue.store.renew("a0", "ann", NOW + 10, NOW + 10 + 1800)
    assert until() == LATER  # nothing is written for a few seconds
    queue.store.renew("a0", "bob", NOW + 1000, NOW + 1000 + 1800)
    queue.store.renew("a1", "ann", NOW + 1000, NOW + 1000 + 1800)
    assert until() == LATER
    queue.store.renew("a0", "ann", NOW + 1000, NOW + 1000 + 1800)
    assert until() == NOW + 2800
    queue.judge("ann", "a0")
    queue.store.renew("a0", "ann", NOW + 9000, NOW + 9999)
    assert until() == 0


def test_a_share_goes_blind_to_a_second_annotator(queue):
    assert queue.next_answer("ann", second_share=1.0) == "a0"
    assert not queue.store.is_blind("a0", "ann") and queue.store.is_blind("a0", "bob")
    queue.judge("ann", "a0")
    assert queue.next_answer("ann", second_share=1.0) == "a1"  # nobody is second to themselves
    work = queue.next("bob", second_share=1.0)
    assert (work.answer_id, work.reason, work.blind) == ("a0", "second", True)
    assert queue.next("cat", second_share=1.0).reason == "open"
    assert queue.next("bob", second_share=1.0).blind  # reserved now, and still blind
    queue.judge("bob", "a0", chosen="A red dog!")
    assert queue.store.task_of_answer("a0").due == ""
    [double] = queue.store.double_work()
    assert double.annotators == ("Ann", "Bob") and double.text == "A red dog."
    assert [[edit.replacement for edit in edits] for edits in double.edits] == [["cat"], ["!"]]
    assert list(queue.store.double_work("a0")) == [double] and list(queue.store.double_work("a1")) == []


def test_the_second_share_is_drawn_by_lot_and_stable(queue):
    queue.fill(60, prefix="b")
    answers = [task.answer_id for task in queue.store.tasks(limit=100)]
    for answer in answers:
        queue.judge("ann", answer)

    def seconds(share):
        found, after = [], None
        while (work := queue.next("bob", after, second_share=share)) and work.answer_id not in found:
            found.append(work.answer_id)
            after = work.answer_id
        return set(found)

    assert seconds(0.0) == set()
    some = seconds(0.3)
    lot = {a for a in answers if share_of("second", fingerprint(Prompt(f"{a}?"), "A red dog.")) < 0.3}
    assert some == lot and 5 < len(some) < 35
    assert some < seconds(0.6) < seconds(1.0) == set(answers)
    assert queue.store.count_tasks(0.3).second == len(some)


def test_who_has_reviewed_a_correction_does_not_correct_it_blind(queue):
    pair = queue.judge("ann", "a0")
    queue.store.review(pair.id, "returned", Person("ray", "Ray"), "no")
    assert queue.next("ray", second_share=1.0).answer_id == "a1"
    assert queue.next("bob", second_share=1.0).answer_id == "a0"


@pytest.mark.parametrize("outcome", ["faithful", "skipped"])
def test_a_judgement_without_a_pair_ends_the_work_and_can_be_taken_back(queue, outcome):
    assert queue.next_answer("ann") == "a0"
    queue.judge("ann", "a0", outcome)
    assert queue.next_answer("ann") == "a1"
    assert queue.store.task_of_answer("a0").due == ("second" if outcome == "faithful" else "")
    assert [judgement.outcome for judgement in queue.store.judgements("a0")] == [outcome]
    with pytest.raises(NotFound):
        queue.store.reopen("a0", "bob", LATER)
    queue.store.reopen("a0", "ann", LATER)
    assert queue.store.judgements("a0") == []
    assert queue.next_answer("ann") == "a0" and queue.next_answer("bob") == "a2"
    with pytest.raises(NotFound):
        queue.store.reopen("a0", "ann", LATER)
    queue.judge("ann", "a0")
    with pytest.raises(NotFound, match="corrected"):
        queue.store.reopen("a0", "ann", LATER)


def test_own_returned_pairs_come_first(queue):
    assert queue.next_answer("ann") == "a0"
    pairs = [queue.judge("ann", answer) for answer in ("a0", "a1")]
    assert queue.next_answer("ann") == "a2"
    for pair in pairs:
        queue.store.review(pair.id, "returned", Person("ray", "Ray"), "The cup is blue.")
    work = queue.next("ann")
    assert (work.answer_id, work.reason, work.pair_id, work.until) == ("a0", "returned", pairs[0].id, 0)
    assert queue.next_answer("ann", "a0") == "a1"
    assert queue.next_answer("ann", "a1") == "a2"
    assert queue.next("bob").reason == "open"
    queue.judge("ann", "a0", chosen="A blue dog.")
    assert queue.next_answer("ann") == "a1"


def test_gold_items_are_mixed_in_unseen_and_the_same_for_everybody_again(queue):
    queue.fill(3, gold=(Edit(6, 9, "cat", "object"),), prefix="g")
    queue.fill(40, prefix="b")

    def walk(visitor, share=0.4):
        path = []
        while (work := queue.next(visitor, gold_share=share)) and len(path) < 12:
            assert work.reason == "open" and not work.blind
            path.append(work.answer_id)
            queue.judge(visitor, work.answer_id)
        return path

    for visitor in ("ann", "bob"):
        path = walk(visitor)
        gold = [answer for answer in path if answer.startswith("g")]
        turns = [index for index in range(12) if share_of("gold", visitor, index) < 0.4][:3]
        assert [path.index(answer) for answer in gold] == turns and len(set(gold)) == len(gold)
        assert gold == sorted(
            gold, key=lambda answer: share_of("gold", visitor, queue.store.task_of_answer(answer).id)
        )
        for answer in gold:
            assert queue.store.pair_states([pair_id((answer,), visitor)]) == ["gold"]
            assert not queue.store.is_blind(answer, visitor)
    assert queue.store.find_pairs(state="gold").total == len(list(queue.store.gold_work())) > 2
    scored = next(iter(queue.store.gold_work()))
    assert (scored.annotator, scored.edits, scored.known) == ("Ann", *[(Edit(6, 9, "cat", "object"),)] * 2)
    assert not any(answer.startswith("g") for answer in walk("cat", share=0.0))


def test_gold_comes_in_place_of_work_never_when_there_is_none(queue):
    queue.fill(2, gold=(), prefix="g")
    for index in range(5):
        queue.judge("bob", f"a{index}")
    assert queue.next("ann", gold_share=1.0) is None
    queue.fill(1, prefix="b")
    first = queue.next("ann", gold_share=1.0)
    assert first.answer_id.startswith("g")
    assert queue.next("ann", gold_share=1.0).answer_id == first.answer_id
    queue.judge("ann", first.answer_id, "faithful")
    assert queue.store.count_tasks().gold == 2
    assert [work.edits for work in queue.store.gold_work()] == [()]


def test_gold_that_is_left_does_not_come_at_once_again(queue):
    queue.fill(1, gold=(), prefix="g")
    assert queue.next_answer("ann", gold_share=1.0) == "g0"
    assert queue.next_answer("ann", "g0", gold_share=1.0) == "a0"
    assert queue.next_answer("ann", gold_share=1.0) == "a0"


def test_two_annotators_of_one_name_make_two_pairs(queue, make_judgement, make_pair):
    pairs = []
    for visitor, chosen in (("ann", "A red cat."), ("bob", "A blue dog."), ("ann", "A red cow.")):
        judgement = make_judgement(f"{visitor}-{chosen[-4]}", "a0", annotator="Kim")
        pairs.append(queue.store.save(judgement, make_pair(queue.store.answer("a0"), chosen, "Kim"), visitor).pair)
    assert [pair.id for pair in pairs] == [pair_id(("a0",), name) for name in ("ann", "bob", "ann")]
    assert queue.store.pair_made_of("a0", "ann") == pairs[2] and queue.store.pair_made_of("a0", "cat") is None
    assert queue.store.pair_visitor(pairs[1].id) == "bob"


@pytest.mark.parametrize("forged", ["", "nobody", "\ud800", "a\0b", "' OR 1=1 --"])
def test_forged_visitors_and_answers_get_nothing_of_others(queue, forged):
    queue.next("ann")
    queue.store.release("a0", forged)
    queue.store.renew("a0", forged, NOW, LATER)
    assert queue.next("ann").reason == "reserved"
    queue.store.release(forged, "ann")
    assert queue.next_answer("ann", forged) == "a0"
    with pytest.raises(NotFound):
        queue.store.reopen(forged, "ann", LATER)
    assert queue.next_answer(forged) == "a1"


# ---- several processes

TAKER = """
import sys, time
from rlhfv.corrections.store import Store
store, name, count = Store(sys.argv[1], team=True), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
after = None
for _ in range(count):
    work = store.next_work(name, time.time(), time.time() + 60, after)
    store.save_draft(name, work.answer_id, {"edits": []})
    print(work.answer_id, flush=True)
    after = work.answer_id
"""

ANSWERER = """
import sys, uuid
from rlhfv.corrections.conversation import Answer, ModelIdentity, Sampling
from rlhfv.corrections.store import Store
store, name, count = Store(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
while tasks := store.unanswered(count):
    model = ModelIdentity("demo", "1")
    answers = [
        (task.id, Answer(uuid.uuid4().hex, task.prompt, name + task.prompt.question, model, Sampling(), "", "2025"))
        for task in tasks
    ]
    for id, came in store.attach_answers(answers).items():
        if came == "attached":
            print(id, flush=True)
"""


def run_at_once(script, path, names, count):
    """The lines that each process printed."""
    processes = [start_process(script, path, name, count) for name in names]
    let_go(*processes)
    outputs = []
    for process in processes:
        output, errors = process.communicate(timeout=120)
        assert errors == "" and process.returncode == 0
        outputs.append(output.split())
    return outputs


def test_five_processes_never_get_the_same_first_correction(queue):
    queue.fill(35, prefix="b")
    outputs = run_at_once(TAKER, queue.store.path, ["ann", "bob", "cat", "dan", "eve"], 8)
    taken = [answer for output in outputs for answer in output]
    assert len(taken) == len(set(taken)) == 40
    assert queue.next_answer("fay", now=NOW) is None


def test_three_processes_answer_every_task_once(queue):
    queue.store.add_tasks(NewTask(Prompt(f"q{index}?")) for index in range(30))
    outputs = run_at_once(ANSWERER, queue.store.path, ["p1", "p2", "p3"], 4)
    attached = [id for output in outputs for id in output]
    assert len(attached) == len(set(attached)) == 30
    answers = [task.answer_id for task in queue.store.tasks("first", limit=100)]
    assert len(answers) == len(set(answers)) == 35 and queue.store.unanswered() == []
    kept = queue.store._connection.execute("SELECT count(*) FROM answers").fetchone()[0]
    assert kept == 35, "an answer was kept that belongs to no task"
