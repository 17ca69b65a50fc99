"""The figures of the work, as the page shows them to each."""

from rlhfv.corrections.conversation import Answer, ModelIdentity, Prompt, Sampling
from rlhfv.corrections.edits import Edit
from rlhfv.corrections.tasks import EVERYBODY, NewTask
from rlhfv.services.terms import Terms
from tests.studio.conftest import texts

BLUE = Edit(2, 5, "blue", "attribute")


def test_before_anything_was_judged_it_says_what_comes(page, ann):
    assert "Nothing was judged yet." in texts(page.fire("tab-statistics", "select", ann)["statistics"])


def test_everybodys_work_for_reviewers_and_ones_own_for_annotators(page, services, olga, ann, bo, ray, picture):
    services.queue.change_settings(olga, second_share=0.0, gold_share=0.0)
    image = services.corrections.shelf.intake(picture).name
    for number in range(3):
        prompt = Prompt(f"What is there, {number}?", (image,))
        model = ModelIdentity("scripted", "0")
        answer = Answer(f"answer-{number}", prompt, "A red cup.", model, Sampling(), EVERYBODY, "2026-11-22")
        services.queue.add(olga, [NewTask(prompt, answer=answer)])
    for who in (ann, bo):
        services.corrections.set_terms(who, Terms(consent=True))
        item = services.queue.next_item(who)
        services.corrections.save(who, item.answer_id, item.original, [BLUE], active_seconds=12)
    services.corrections.faithful(ann, services.queue.next_item(ann).answer_id)

    told = texts(page.fire("tab-statistics", "select", ray)["statistics"])
    assert "Over everybody's work." in told and "2 corrected answers 2 wait for a review" in told
    assert "1.00 corrections an answer 2.65 in the paper's data" in told
    assert "3.0 words an answer 64.4 in the paper's data" in told
    assert "12 s active time a correction" in told and "33.3 % nothing wrong of 3 judged answers" in told
    assert "66.7 % of the judged answers hallucinate" in told
    assert "attribute 2 100.0 % 66.7 %" in told and "By annotator Corrected" in told and "Ann 1 1 1.00" in told

    own = texts(page.fire("tab-statistics", "select", ann)["statistics"])
    assert "Over your own work." in own and "1 corrected answers" in own and "Bo" not in own
