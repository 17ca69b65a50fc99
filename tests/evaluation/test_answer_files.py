"""Answers from files and into files: each format there and back, pairing by id, and what becomes of bad rows."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlhfv.errors import InvalidData
from rlhfv.evaluation import amber, mmhal, pope
from rlhfv.evaluation.answer_files import read_answers_file, write_answers_file
from rlhfv.evaluation.answer_forms import FORMS, image_number
from rlhfv.evaluation.score import Item

UNSURE = "rows were paired by their id or place alone; no question could confirm it."
WITHOUT_QUESTION = {"amber": 2, "pope-keyed": 1, "llava": 1, "caption": 2, "vlmevalkit": 1}
"""Rows of the samples below that tell no question."""
ITEMS = [
    Item(str(n), f"Is there a {thing}?", f"coco/COCO_val2014_{n:012}.jpg")
    for n, thing in enumerate(("cat", "dog", "bus"), 7)
]
ANSWERS = {"7": "Yes", "8": "No, 没有 🐶 e\u0301\n\tsecond line", "9": ""}
RAW = {
    "amber": '[{"id": 7, "response": "Yes"}, {"id": "8", "response": "no"}]',
    "pope": '{"question": "Is there a cat?", "answer": "Yes"}\n{"question": "Is there a dog?", "answer": "no"}\n',
    "pope-keyed": '{"question_id": 8, "question": "Is there a dog?", "answer": "no"}\n'
    '{"question_id": 7, "answer": "Yes"}\n',
    "llava": '{"question_id": 7, "prompt": "Is there a cat?\\nAnswer in a word.", "text": "Yes", "answer_id": "a", '
    '"model_id": "m", "metadata": {}}\n{"question_id": 8, "text": "no", "category": "conv"}\n',
    "caption": '{"image_id": 7, "caption": "Yes"}\n{"image_id": "COCO_val2014_000000000008.jpg", "caption": "no"}\n',
    "object-halbench": '{"image_id": "7", "prompt": "Is there a cat? Describe.", "text": "Assistant: Yes"}\n'
    '{"question_id": "000000000008.jpg", "raw_question": "Is there a dog?", "answer": "no"}\n',
    "mmhal": '[{"question": "Is there a cat?", "image_id": "x", "model_answer": "Yes"}, '
    '{"question": "Is there a dog?", "model_answer": "no"}]',
    "lmms-eval": '{"doc_id": 0, "target": "yes", "input": "Is there a cat?", "filtered_resps": "Yes"}\n'
    '{"doc_id": 1, "input": "Is there a dog?", "resps": [["no"]]}\n',
    "vlmevalkit": '[{"index": 7, "question": "Is there a cat?", "prediction": "Yes"}, '
    '{"index": 8, "prediction": "no"}]',
}


def read(tmp_path, text, items=ITEMS, name="answers.jsonl", form=""):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_answers_file(tmp_path / name, items, form)


def template(folder):
    rows = [{"question": item.question, "gt_answer": "…", "model_answer": ""} for item in ITEMS]
    (folder / "template.json").write_text(json.dumps(rows))
    return folder / "template.json"


@pytest.mark.parametrize("form", FORMS)
def test_a_file_as_others_write_it(tmp_path, form):
    answers = read(tmp_path, RAW[form])
    assert answers == {"7": "Yes", "8": "no"}
    unsure = (f"{WITHOUT_QUESTION[form]} of 2 {UNSURE}",) if form in WITHOUT_QUESTION else ()
    assert (answers.form, answers.problems, answers.notes) == (form, (), unsure)


@pytest.mark.parametrize("form", [*FORMS, "vlmevalkit.json"])
def test_there_and_back_byte_for_byte(tmp_path, form):
    form, _, suffix = form.partition(".")
    name = f"first.{suffix or ('tsv' if form == 'vlmevalkit' else 'json')}"
    first, second = tmp_path / name, tmp_path / f"second{name[5:]}"
    told = {"template": template(tmp_path)} if form == "mmhal" else {}
    assert write_answers_file(first, form, ITEMS, ANSWERS, "a/model", **told) == len(ANSWERS)
    back = read_answers_file(first, ITEMS)
    assert (back, back.form, back.problems) == (ANSWERS, form, ())
    write_answers_file(second, form, list(ITEMS), dict(reversed(back.items())), "a/model", **told)
    assert first.read_bytes() == second.read_bytes()


def test_what_is_written_is_what_the_owners_scripts_read(tmp_path):
    def rows(form):
        write_answers_file(tmp_path / "a", form, ITEMS, ANSWERS, "m")
        text = (tmp_path / "a").read_text()
        return json.loads(text) if form == "amber" else [json.loads(line) for line in text.splitlines()]

    assert rows("amber")[0] == {"id": 7, "response": "Yes"}
    assert rows("pope")[0] == {"question": "Is there a cat?", "answer": "Yes"}
    assert list(rows("llava")[0]) == ["question_id", "prompt", "text", "answer_id", "model_id", "metadata"]
    assert rows("llava")[0]["model_id"] == "m" and len({row["answer_id"] for row in rows("llava")}) == 3
    assert rows("caption")[2] == {"image_id": 9, "caption": ""}
    assert rows("object-halbench")[0] == {"image_id": 7, "question": "Is there a cat?", "answer": "Yes"}
    assert rows("lmms-eval")[1]["doc_id"] == 1
    write_answers_file(tmp_path / "a.tsv", "vlmevalkit", ITEMS, ANSWERS)
    table = list(csv.DictReader(io.StringIO((tmp_path / "a.tsv").read_bytes().decode(), newline=""), delimiter="\t"))
    assert table[1] == {"index": "8", "question": "Is there a dog?", "category": "", "prediction": ANSWERS["8"]}


TEXTS = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from('"\t\r\n\u2028\x00\x85🐶\u0301狗\ufeff')), max_size=12
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.fixed_dictionaries({item.id: TEXTS for item in ITEMS}), st.sampled_from([*FORMS]))
def test_any_text_comes_back_as_it_was(tmp_path, answers, form):
    told = {"template": template(tmp_path)} if form == "mmhal" else {}
    path = tmp_path / ("a.tsv" if form == "vlmevalkit" else "a.json")
    write_answers_file(path, form, ITEMS, answers, **told)
    untouched = form == "mmhal" and not any(answers.values())
    assert read_answers_file(path, ITEMS, form) == ({} if untouched else answers)


def test_half_a_character_is_kept_in_json_and_refused_in_a_table(tmp_path):
    write_answers_file(tmp_path / "a.json", "amber", ITEMS, {"7": "\ud83d"})
    assert read_answers_file(tmp_path / "a.json", ITEMS) == {"7": "\ud83d"}
    with pytest.raises(InvalidData, match="half a character"):
        write_answers_file(tmp_path / "a.tsv", "vlmevalkit", ITEMS, {"7": "\ud83d"})


# Bad rows


@pytest.mark.parametrize(
    ("form", "rows", "named"),
    [
        (
            "amber",
            [{"id": 7, "response": "a"}, 5, {"id": 8}, {"response": "b"}, {"id": 9, "response": None}],
            [2, 3, 4, 5],
        ),
        (
            "llava",
            [{"question_id": 7, "text": "a"}, {"question_id": True, "text": "b"}, {"question_id": 70, "text": "c"}],
            [2, 3],
        ),
        (
            "caption",
            [{"image_id": 7, "caption": "a"}, {"image_id": [8], "caption": "b"}, {"image_id": 8, "caption": 3}],
            [2, 3],
        ),
        (
            "lmms-eval",
            [{"doc_id": 0, "resps": ["a"]}, {"doc_id": "x", "resps": ["b"]}, {"doc_id": 2, "resps": ["c", "d"]}],
            [2, 3],
        ),
        (
            "lmms-eval",
            [{"doc_id": 0, "resps": ["a"]}, {"doc_id": 3, "resps": ["b"]}, {"doc_id": -1, "resps": ["b"]}],
            [2, 3],
        ),
        ("vlmevalkit", [{"index": 7, "prediction": "a"}, {"index": "b", "prediction": "c"}, {"index": 8}], [2, 3]),
        # the same item again: in the same words it is no loss, in others nobody knows which is meant
        (
            "amber",
            [{"id": 7, "response": "a"}, {"id": 7, "response": "a"}, *({"id": 8, "response": text} for text in "bbc")],
            [3, 4, 5],
        ),
    ],
)
def test_bad_rows_are_named_and_the_others_taken(tmp_path, form, rows, named):
    answers = read(
        tmp_path,
        json.dumps(rows),
        [*ITEMS, *(Item(f"more{n}", f"{n}?") for n in range(60))][: 3 if form == "lmms-eval" else None],
    )
    assert answers == {"7": "a"} and answers.form == form
    assert [problem.row for problem in answers.problems] == named
    assert all(problem.what and problem.why and problem.fix for problem in answers.problems)


def test_lines_and_table_rows_that_cannot_be_parsed_are_named(tmp_path):
    lines = '{"question_id": 7, "text": "a"}\n\n{"question_id": 8, "te\n{"question_id": 9, "text": "\u2028c"}'
    answers = read(tmp_path, b"\xef\xbb\xbf" + lines.encode() + b'\n{"question_id": 8, "text": "\xff"}\n')
    assert answers == {"7": "a", "9": "\u2028c"} and [problem.row for problem in answers.problems] == [3, 5]
    table = read(tmp_path, 'index\tprediction\r\n7\ta\r\n8\t"b\tc"\r\n9\td\te\r\n', name="a.tsv")
    assert table == {"7": "a", "8": "b\tc"} and [problem.row for problem in table.problems] == [3]


def test_an_answer_that_is_too_long_is_named(tmp_path):
    rows = [{"id": 7, "response": "a" * 100_000}, {"id": 8, "response": "a" * 100_001}]
    answers = read(tmp_path, json.dumps(rows))
    assert list(answers) == ["7"] and "Row 2: Its answer has 100,001 characters." in str(answers.problems[0])


def test_a_table_may_hold_pictures(tmp_path):
    table = "index\timage\tprediction\n7\t" + "A" * 200_000 + "\ta\n"
    limit = csv.field_size_limit()
    assert read(tmp_path, table, name="a.tsv") == {"7": "a"} and csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("a.xlsx", "PK", "is an Excel workbook"),
        ("a.json", "[{", "could not be parsed"),
        ("a.json", b"[\xff]", "could not be parsed"),
        ("a.tsv", 'index\tprediction\n7\t"a', "could not be parsed"),
        ("a.json", "", "It has no rows"),
        ("a.json", '{"id": 7, "response": "ye', "Row 1: The line .*ye' is not JSON.*Unterminated"),
        ("a.json", b"\x89PNG\x00\xff", "Row 1: The line .* is not JSON"),
        ("a.json", '{"id": 7, "response": "a"}'.encode("utf-16"), "Row 1: The line .* is not JSON"),
        ("a.json", "[1, 2]", "It has no rows"),
        ("a.json", '{"id": 7, "reply": "a"}', "Its columns are id, reply"),
        # questions are no answers, though LLaVA's answers have their text in the same column
        (
            "a.json",
            '{"question_id": 7, "image": "a.jpg", "text": "Is there a cat?", "label": "yes"}',
            "Its columns are",
        ),
    ],
)
def test_a_file_that_holds_no_answers_is_refused(tmp_path, name, text, what):
    with pytest.raises(InvalidData, match=what):
        read(tmp_path, text, name=name)


def test_no_file_an_unknown_form_and_a_workbook_to_write(tmp_path):
    with pytest.raises(InvalidData, match="could not be read"):
        read_answers_file(tmp_path / "none.json", ITEMS)
    for path in (Path(""), Path("/")):
        with pytest.raises(InvalidData, match=f"^{path} could not be read"):
            read_answers_file(path, ITEMS)
    with pytest.raises(InvalidData, match="The format is 'xml'"):
        read(tmp_path, RAW["amber"], form="xml")
    with pytest.raises(InvalidData, match="Excel"):
        write_answers_file(tmp_path / "a.xlsx", "vlmevalkit", ITEMS, ANSWERS)
    with pytest.raises(InvalidData, match="could not be written"):
        write_answers_file(tmp_path / "no" / "folder", "amber", ITEMS, ANSWERS)


# Pairing


def test_order_does_not_matter_where_rows_have_ids(tmp_path):
    rows = RAW["pope-keyed"].splitlines()
    assert read(tmp_path, "\n".join(rows)) == read(tmp_path, "\n".join(reversed(rows)))


def test_popes_plain_form_is_paired_by_line_and_every_question_has_to_be_the_items(tmp_path):
    first, second = RAW["pope"].splitlines()
    assert read(tmp_path, first) == {"7": "Yes"}
    with pytest.raises(InvalidData, match="Line 1 answers 'Is there a dog\\?', where 'Is there a cat\\?' is asked"):
        read(tmp_path, f"{second}\n{first}\n")
    with pytest.raises(InvalidData, match="There are 4 lines for 3 questions"):
        read(tmp_path, RAW["pope"] * 2)
    torn = read(tmp_path, f"{first}\n{{\n" + json.dumps({"question": "Is there a bus?", "answer": "no"}))
    assert torn == {"7": "Yes", "9": "no"} and [problem.row for problem in torn.problems] == [2]
    with pytest.raises(InvalidData, match="1 of 3 questions have no answer"):
        write_answers_file(tmp_path / "a", "pope", ITEMS, {"7": "a", "8": "b"})


def test_an_id_whose_question_is_another_is_not_taken(tmp_path):
    items = [Item(str(n), f"Question {n:03}?") for n in range(50)]
    rows = [{"question_id": n, "question": f"Question {n:03}? In a word.", "answer": "a"} for n in range(50)]
    rows[4]["question"] = "Question 011?"
    answers = read(tmp_path, json.dumps(rows), items)
    assert len(answers) == 49 and [problem.row for problem in answers.problems] == [5]
    shifted = [row | {"question_id": row["question_id"] + 1} for row in rows]
    with pytest.raises(InvalidData, match="id and question do not go together, first in row 1"):
        read(tmp_path, json.dumps(shifted), items)


def test_a_question_that_all_items_share_tells_nothing(tmp_path):
    items = [Item("1", "Describe this image."), Item("2", "Describe this image.")]
    rows = '{"question_id": 1, "prompt": "What is it?", "text": "a"}\n{"question_id": 2, "prompt": "", "text": "b"}'
    assert read(tmp_path, rows, items) == {"1": "a", "2": "b"}
    answers = read(tmp_path, '{"doc_id": 1, "input": "What is it?", "resps": [["b"]]}', items)
    assert answers == {"2": "b"} and "no question could confirm it" in answers.notes[0]


def test_images_with_several_questions_have_no_caption(tmp_path):
    items = [Item("a", "One?", "x/000012.jpg"), Item("b", "Two?", "x/000012.jpg"), Item("c", "Three?", "x/13.jpg")]
    for rows in ('{"image_id": 13, "caption": "c"}', '{"question_id": "a", "raw_question": "What?", "answer": "a"}'):
        with pytest.raises(InvalidData, match="Several questions are about the image 12"):
            read(tmp_path, rows, items)
    with pytest.raises(InvalidData, match="Several questions are about the image 12"):
        write_answers_file(tmp_path / "a", "caption", items, {"a": "", "c": ""})


def test_captions_are_no_answers_to_pope(tmp_path):
    items = [Item(str(n), f"Is there a {n}?", f"COCO_val2014_{n % 5:012}.jpg") for n in range(1, 31)]
    rows = "\n".join(json.dumps({"image_id": n, "caption": "A dog."}) for n in range(1, 31))
    with pytest.raises(InvalidData, match="one answer an image"):
        read(tmp_path, rows, items)


def test_a_question_about_the_right_image_has_to_be_the_items(tmp_path):
    rows = [{"image_id": item.id, "raw_question": item.question, "answer": "a"} for item in ITEMS]
    assert len(read(tmp_path, json.dumps(rows))) == 3
    rows[0]["raw_question"] = "What colour?"
    assert [problem.row for problem in read(tmp_path, json.dumps(rows)).problems] == [1]
    rows[1]["raw_question"] = "What colour?"
    with pytest.raises(InvalidData, match="id and question do not go together, first in row 1"):
        read(tmp_path, json.dumps(rows))


def test_ids_that_fit_several_splits_are_taken_with_a_note(tmp_path):
    rows = [{"question_id": item.id, "answer": "yes"} for item in ITEMS]
    assert read(tmp_path, json.dumps(rows)).notes == (f"3 of 3 {UNSURE}",)
    rows = [row | {"raw_question": item.question} for row, item in zip(rows, ITEMS, strict=True)]
    assert read(tmp_path, json.dumps(rows), form="pope-keyed").notes == ()


def test_an_empty_answer_in_mmhals_template_is_one_unless_all_are(tmp_path):
    rows = [{"question": item.question, "model_answer": text} for item, text in zip(ITEMS, ("", "x", ""), strict=True)]
    answers = read(tmp_path, json.dumps(rows))
    assert answers == {"7": "", "8": "x", "9": ""}
    assert answers.notes == ("2 of 3 answers of the template are blank.",)
    rows[1]["model_answer"] = ""
    assert read(tmp_path, json.dumps(rows)) == {}
    with pytest.raises(InvalidData, match="2 of 3 questions have no answer"):
        write_answers_file(tmp_path / "a", "mmhal", ITEMS, {"8": "x"}, template=template(tmp_path))


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("COCO_val2014_000000000042.jpg", "42"),
        ("image/AMBER_7.jpg", "7"),
        ("a/000.png", "0"),
        ("9", "9"),
        ("cat.jpg", None),
    ],
)
def test_the_number_of_an_image(name, number):
    assert image_number(name) == number


# The public files


def test_real_captions_there_and_back(benchmarks, tmp_path):
    for path in sorted((benchmarks / "opera_captions").glob("*.jsonl")):
        ids = [json.loads(line)["image_id"] for line in path.read_text().splitlines()]
        items = [Item(str(id), "Please describe this image in detail.", f"coco/val2014/{id:012}.jpg") for id in ids]
        answers = read_answers_file(path, items)
        assert len(answers) == 500 and (answers.form, answers.problems) == ("caption", ())
        write_answers_file(tmp_path / "again", "caption", items, answers)
        assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_mmhals_template_there_and_back(benchmarks, tmp_path):
    path, items = benchmarks / "mmhal" / "mmhal-bench_answer_template.json", mmhal.read_items(benchmarks / "mmhal")
    assert read_answers_file(path, items) == {}
    write_answers_file(tmp_path / "same.json", "mmhal", items, {}, template=path)
    assert (tmp_path / "same.json").read_bytes() == path.read_bytes()
    answers = {item.id: f"Answer {place}" for place, item in enumerate(items)}
    write_answers_file(tmp_path / "filled.json", "mmhal", items, answers, template=path)
    assert read_answers_file(tmp_path / "filled.json", items) == answers  # nine questions are asked of two images
    rows = json.loads((tmp_path / "filled.json").read_text())
    mixed = read(tmp_path, json.dumps(rows[::-1]), items)
    asked = [item.question for item in items]
    assert mixed == {item.id: answers[item.id] for item in items if asked.count(item.question) == 1}
    assert len(mixed) + len(mixed.problems) == 96
    for wrong in ({}, {"template": tmp_path / "answers.jsonl"}):
        with pytest.raises(InvalidData, match=r"template was not named|not those of the items"):
            write_answers_file(tmp_path / "a", "mmhal", items, answers, **wrong)


def test_the_two_random_files_are_never_mixed(benchmarks, tmp_path):
    own = pope.read_items(benchmarks / "pope", "random")
    short = [
        json.loads(line)
        for line in (benchmarks / "pope" / "coco_pope_random.2910_variant.json").read_text().splitlines()
    ]
    keyed = "\n".join(
        json.dumps({"question_id": row["question_id"], "question": row["text"], "answer": "yes"}) for row in short
    )
    bare = "\n".join(json.dumps({"question_id": row["question_id"], "answer": "yes"}) for row in short)
    plain = "\n".join(json.dumps({"question": row["text"], "answer": "yes"}) for row in short)
    for text in (keyed, bare, plain):
        with pytest.raises(InvalidData, match="answers other questions"):
            read(tmp_path, text, own)


@pytest.fixture(scope="module")
def all_splits(benchmarks):
    """Items of the three splits, and rows of one file of all of them: LLaVA, VLMEvalKit and lmms-eval make such."""
    items = {split: pope.read_items(benchmarks / "pope", split)[:300] for split in pope.SPLITS}
    return items, [
        (item, f"{split} {item.id}") for split in ("adversarial", "popular", "random") for item in items[split]
    ]


@pytest.mark.parametrize(
    "form", ["llava", "vlmevalkit", "vlmevalkit with category", "lmms-eval", "lmms-eval by question_id"]
)
def test_a_file_of_all_splits_gives_the_one_that_is_wanted(all_splits, tmp_path, form):
    items, rows = all_splits
    make = {
        "llava": lambda n, item, text: {"question_id": n, "prompt": f"{item.question}\nIn a word.", "text": text},
        "vlmevalkit": lambda n, item, text: {"index": n, "question": item.question, "prediction": text},
        "vlmevalkit with category": lambda n, item, text: {
            "index": n,
            "question": item.question,
            "category": item.group,
            "prediction": text,
        },
        "lmms-eval": lambda n, item, text: {"doc_id": n, "input": f"{item.question}\n", "filtered_resps": [text]},
        "lmms-eval by question_id": lambda n, item, text: {
            "doc_id": n,
            "input": item.question,
            "resps": [[text]],
            "pope_accuracy": {"question_id": item.id, "prediction": text},
        },
    }[form]
    (tmp_path / "all.jsonl").write_text("\n".join(json.dumps(make(n, *row)) for n, row in enumerate(rows)))
    for split in pope.SPLITS:
        answers = read_answers_file(tmp_path / "all.jsonl", items[split])
        assert answers == {item.id: f"{split} {item.id}" for item in items[split]}
        assert answers.problems == () and "600 row(s)" in answers.notes[0]


def test_ids_of_all_splits_without_questions_are_refused(all_splits, tmp_path):
    items, rows = all_splits
    lines = [{"doc_id": n, "resps": [text], "f1": {"question_id": item.id}} for n, (item, text) in enumerate(rows)]
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(InvalidData, match="For 300 of 300 items it holds several answers"):
        read_answers_file(tmp_path / "all.jsonl", items["random"])


def test_ambers_own_format_of_all_its_answers(benchmarks, tmp_path):
    described = amber.read_generative_items(benchmarks / "amber")
    asked = amber.read_discriminative_items(benchmarks / "amber")
    assert write_answers_file(tmp_path / "d.json", "amber", asked, {item.id: "No" for item in asked}) == 14216
    assert read_answers_file(tmp_path / "d.json", asked) == {item.id: "No" for item in asked}
    # A file of one part has no answer to the other.
    assert read_answers_file(tmp_path / "d.json", described) == {}
