"""The queue and the reviews in a terminal: every verb with figures and with JSON."""

import json

import pytest

from rlhfv.corrections.edits import Edit
from rlhfv.services import build_services, local_actor
from rlhfv.services.actor import Actor
from rlhfv.services.terms import Terms
from rlhfv.settings import Settings

TEXT = "A red cup on a big table."
CUP, TABLE, GREEN = (
    Edit(2, 5, "blue", "attribute"),
    Edit(15, 18, "small", "attribute"),
    Edit(2, 5, "green", "attribute"),
)


@pytest.fixture
def rows(tmp_path, picture):
    """A JSONL file with two answers and a picture beside it."""
    (tmp_path / "pictures").mkdir()
    picture.rename(tmp_path / "pictures" / "one.png")
    row = {"image": "pictures/one.png", "question": "q?", "answer": TEXT, "model": "llava"}
    lines = [row, row | {"question": "other?"}]
    (tmp_path / "tasks.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path / "tasks.jsonl"


@pytest.fixture
def two(say, rows, tmp_path):
    """Two submitted corrections of the same answer, made by a team in the same data folder."""
    say("tasks", "add", rows)
    team = build_services(Settings(tmp_path / "data", single_user=False, team=True))
    answer = team.store.tasks()[0].answer_id
    ids = []
    for name, edits in (("Ann", [CUP]), ("Bob", [TABLE])):
        actor = Actor(f"v-{name}", name)
        team.corrections.set_terms(actor, Terms())
        ids.append(team.corrections.save(actor, answer, TEXT, edits, active_seconds=9).pair_id)
    return ids


def test_tasks_come_in_are_listed_and_handed_out(say, rows, tmp_path):
    code, out, _ = say("tasks", "add", rows, "--batch", "monday", "--json")
    came = json.loads(out)
    assert code == 0 and len(came["added"]) == 2 and came["duplicates"] == came["problems"] == []
    code, _, err = say("tasks", "add", rows)
    assert code == 0 and "0 tasks added, 2 already here" in err and "Row 1 is here already" in err
    code, _, err = say("tasks", "add", tmp_path / "pictures", "--question", "Describe it.")
    assert code == 0 and "1 task added" in err
    listed = json.loads(say("tasks", "list", "--due", "first", "--json")[1])
    assert [task["batch"] for task in listed] == ["monday", "monday"]
    assert say("tasks", "list", "--due", "answer")[1].count("Describe it.") == 1
    assert say("tasks", "list", "--due", "nothing")[1] == ""
    item = json.loads(say("tasks", "next", "--json")[1])
    assert (item["question"], item["original"], item["reason"]) == ("q?", TEXT, "open")
    code, out, err = say("tasks", "next", "--after", item["answer_id"])
    assert "other?" in out and "Reserved until" in err
    status = json.loads(say("tasks", "status", "--json")[1])
    assert (
        status["counts"] == {"total": 3, "unanswered": 1, "first": 2, "second": 0, "gold": 0} and status["done"] == 0
    )
    assert "unanswered     1" in say("tasks", "status")[1]


def test_what_cannot_come_in_is_told(say, rows, tmp_path):
    rows.write_text('no json\n{"image": "none.png", "question": "q?"}\n')
    code, _, err = say("tasks", "add", rows)
    assert code == 2 and "Row 1" in err and "Row 2" in err and "2 rows left out" in err
    assert say("tasks", "add", tmp_path / "nothing")[0] == 2
    assert say("tasks", "add", tmp_path / "pictures")[0] == 2
    assert "no tasks yet" in say("tasks", "next")[2]


def test_settings_of_the_queue(say, tmp_path):
    (tmp_path / "guide.txt").write_text("Be brief.")
    code, out, _ = say("tasks", "settings", "--second-share", 0.25, "--guideline", tmp_path / "guide.txt", "--json")
    kept = json.loads(out)
    assert (code, kept["second_share"], kept["guideline"], kept["gold_share"]) == (0, 0.25, "Be brief.", 0.05)
    assert "Be brief." in say("tasks", "settings")[1]
    code, _, err = say("tasks", "settings", "--gold-share", 2)
    assert code == 2 and "from 0 to 1" in err
    assert say("tasks", "settings", "--guideline", tmp_path / "none.txt")[0] == 2


def test_reviews_in_a_terminal(say, two):
    one, other = two
    listed = json.loads(say("pairs", "list", "--state", "submitted", "--json")[1])
    assert {(pair["id"], pair["state"]) for pair in listed["pairs"]} == {(one, "submitted"), (other, "submitted")}
    assert say("pairs", "accept", one)[0] == 2  # the two have to be compared
    code, out, _ = say("pairs", "return", other, "--comment", "not the table", "--json")
    assert code == 0 and json.loads(out)[0]["after"] == "returned"
    assert "now accepted" in say("pairs", "accept", one)[2]
    assert say("pairs", "withdraw", one)[0] == say("pairs", "undo", one)[0] == 0
    story = json.loads(say("pairs", "story", one, "--json")[1])
    assert [line["text"] for line in story][:2] == ["Ann corrected 1 span", "Somebody accepted it"]
    assert "Somebody returned it: 'not the table'" in say("pairs", "story", other)[1]
    for words in (("accept", "forged"), ("return", "forged", "--comment", "x"), ("undo", "forged"), ("story", "x")):
        code, _, err = say("pairs", *words)
        assert code == 2 and err.startswith("Error: ")


def test_two_corrections_are_chosen_between_or_merged(say, two, tmp_path):
    one, other = two
    assert "is accepted" in say("pairs", "choose", other, one)[2]
    say("pairs", "undo", one)
    code, out, _ = say("pairs", "merge", one, other, "--json")
    assert code == 0 and json.loads(out)["chosen"] == "A blue cup on a small table."
    say("pairs", "undo", one)
    (tmp_path / "edits.json").write_text(json.dumps([vars(GREEN) | {"text": "red"}]))
    code, _, err = say("pairs", "merge", one, other, "--edits", tmp_path / "edits.json")
    assert code == 0 and "with 1 correction\n" in err
    (tmp_path / "edits.json").write_text("{")
    assert say("pairs", "merge", one, other, "--edits", tmp_path / "edits.json")[0] == 2


def test_statistics_beside_the_papers_figures(say, two):
    found = json.loads(say("pairs", "stats", "--json")[1])
    assert found["total"]["answers"] == 2 and found["total"]["kinds"]["attribute"] == 2
    assert found["paper"] == {"words": 64.4, "corrections": 2.65}
    assert {row["name"] for row in found["annotators"]} == {"Ann", "Bob"}
    out = say("pairs", "stats")[1]
    assert "7.0 (RLHF-V: 64.4)" in out and "1.00 (RLHF-V: 2.65)" in out and "9 s each" in out
    [(model, rates)] = found["hallucination"].items()
    assert (rates["judged"], rates["any"], rates["attribute"], rates["object"]) == (1, 100.0, 100.0, 0.0)
    assert "more than one person" in " ".join(rates["notes"]) and "100.0 of 1 judged: attribute 100.0" in out
    compared = json.loads(say("pairs", "stats", "--compare", model, model, "--json")[1])
    assert compared["prompts"] == 1 and compared["measures"]["any"]["difference"]["value"] == 0.0
    assert "mended 0, broken 0" in say("pairs", "stats", "--compare", model, model)[1]
    code, _, err = say("pairs", "stats", "--compare", model, "nobody")
    assert code == 2 and "No answer of 'nobody' was judged." in err


def test_agreement_and_gold_are_part_of_the_status(say, two, tmp_path):
    row = {"image": "pictures/one.png", "question": "gold?", "answer": TEXT, "gold": [vars(CUP)]}
    (tmp_path / "gold.jsonl").write_text(json.dumps(row))
    say("tasks", "add", tmp_path / "gold.jsonl")
    services, actor = build_services(Settings(tmp_path / "data")), local_actor("Kim")
    [gold] = services.store.gold_tasks()
    services.corrections.set_terms(actor, Terms())
    services.corrections.save(actor, gold.answer_id, TEXT, [CUP])
    out = say("tasks", "status")[1]
    assert "agreement on 1 answers: span F1 0.00 exact" in out and "gold Kim: span F1 1.00 exact" in out
    status = json.loads(say("tasks", "status", "--json")[1])
    assert status["agreement"]["items"] == 1 and status["gold_scores"][0]["agreement"]["exact_f1"] == 1.0
