"""`pairs list|show|export|import`."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rlhfv.corrections.pairs import PreferencePair
from rlhfv.corrections.store import Store
from rlhfv.publishing.formats import FORMATS
from tests.publishing.formats.rows import read_parquet, rlhfv_row, write_parquet

ROOT = Path(__file__).resolve().parents[2]


def test_pairs_go_in_and_out(say, scripted, data, tmp_path):
    code, _, err = say("pairs", "import", data)
    assert code == 0 and "1 pair imported, 0 rows left out" in err
    code, out, _ = say("pairs", "list", "--json")
    listed = json.loads(out)
    assert code == 0 and listed["total"] == 1
    [pair] = listed["pairs"]
    assert pair["chosen"] == "A cat 🐶 sits." and pair["edits"][0]["text"] == "dog"
    code, out, _ = say("pairs", "show", pair["id"])
    assert "'dog' → 'cat'" in out
    assert f"picture   {pair['images'][0]}" in out and "revision  1, saved by nobody named" in out
    shown = json.loads(say("pairs", "show", pair["id"], "--json")[1])
    assert shown["id"] == pair["id"] and len(shown["revisions"]) == 1
    code, out, err = say("pairs", "export", tmp_path / "out", "--json")
    assert (
        "exporting: 100%" in err
        and json.loads(out)["pairs"] == 1
        and len((tmp_path / "out" / "pairs.jsonl").read_text().splitlines()) == 1
    )
    assert json.loads(say("pairs", "list", "--text", "giraffe", "--json")[1])["total"] == 0
    assert pair["id"] in say("pairs", "list", "--text", "cat")[1]


def test_bad_rows_are_named(say, scripted, data):
    with open(data / "pairs.jsonl", "a") as file:
        file.write('{"question": "q"}\nno json\n')
    code, out, _ = say("pairs", "import", data, "--json")
    report = json.loads(out)
    assert code == 0 and report["imported"] == 1
    assert [problem["row"] for problem in report["problems"]] == [2, 3]
    assert all(problem["what"] and problem["why"] and problem["fix"] for problem in report["problems"])
    err = say("pairs", "import", data)[2]
    assert "Row 3: The line 'no json' is not JSON." in err and "RowProblem" not in err
    (data / "pairs.jsonl").write_text("no json\n")
    assert say("pairs", "import", data)[0] == 2
    assert say("pairs", "show", "unknown")[0] == 2


def test_a_list_has_one_line_a_pair(say, scripted, data):
    row = json.loads((data / "pairs.jsonl").read_text())
    row |= {"question": "What\nis\x1b[2J there?", "provenance": {"annotator": "a\nb"}}
    (data / "pairs.jsonl").write_text(json.dumps(row))
    say("pairs", "import", data)
    _, out, err = say("pairs", "list")
    assert len(out.splitlines()) == 1 and "a b" in out and "\\u{1b}[2J" in out and "1 of 1 pair" in err


def test_a_second_turn_is_shown_with_the_first(say, scripted, data):
    row = json.loads((data / "pairs.jsonl").read_text())
    row["history"] = [{"question": "Where is it?", "answer": "In a kitchen.", "images": []}]
    (data / "pairs.jsonl").write_text(json.dumps(row))
    say("pairs", "import", data)
    [pair] = json.loads(say("pairs", "list", "--json")[1])["pairs"]
    out = say("pairs", "show", pair["id"])[1]
    assert "Where is it?" in out and "In a kitchen." in out
    code, out, _ = say("pairs", "export", data.parent / "dataset", "--datasets", "--json")
    assert code == 0 and json.loads(out)["pairs"] == 1


@pytest.mark.parametrize("id", ["unknown", "../x", "", "\udcff"])
def test_an_id_that_names_no_pair_is_told(say, id):
    code, out, err = say("pairs", "show", id)
    assert code == 2 and out == "" and len(err.splitlines()) == 3


def test_rows_of_other_formats_go_in_and_out(say, scripted, tmp_path):
    rows = [rlhfv_row(1), *[rlhfv_row(seed, text="{") for seed in range(2, 32)], rlhfv_row(40, text='{"chosen": 1}')]
    write_parquet(rows, tmp_path / "rows" / "data" / "train-0.parquet")
    code, out, err = say("pairs", "import", tmp_path / "rows")
    assert code == 0 and out == ""
    assert "Read as rlhf-v, told by the columns ds_name, image, text," in err
    assert "Row 2 of data/train-0.parquet: The column 'text' is '{'." in err
    assert "… and 11 more; `--json` has them all" in err and "1 pair imported, 31 rows left out" in err
    report = json.loads(say("pairs", "import", tmp_path / "rows", "--format", "rlhf-v", "--json")[1])
    assert (report["format"], report["imported"], report["changed"], len(report["problems"])) == ("rlhf-v", 1, 0, 31)
    assert report["problems"][0]["file"] == "data/train-0.parquet"

    for name in FORMATS:
        code, out, err = say("pairs", "export", tmp_path / name, "--format", name, "--json")
        losses = json.loads(out)["losses"]
        assert code == 0 and json.loads(out)["pairs"] == 1
        assert [line for line in err.splitlines() if line.startswith("Not in")] == [
            f"Not in {name}: {sentence}" for sentence in losses
        ]
        assert err.find("Not in") < err.find("exporting"), "told before it is written"
    assert read_parquet(tmp_path / "rlhf-v" / "RLHF-V-Dataset.parquet") == rows[:1]


def test_what_is_no_data_is_told(say, scripted, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"a": 1}')
    code, out, err = say("pairs", "import", tmp_path / "rows.jsonl")
    assert code == 2 and out == "" and "The columns are a. None of the formats" in " ".join(err.split())
    code, _, err = say("pairs", "import", tmp_path / "nowhere")
    assert code == 2 and "There is nothing at" in err


@pytest.mark.slow
def test_100_000_pairs_are_listed_within_a_second(tmp_path):
    row = {"question": "What is there?", "rejected": "A red dog.", "chosen": "A red fox."}
    pair = PreferencePair.from_row(row)
    store = Store(tmp_path / "studio.sqlite3")
    assert store.add_pairs((replace(pair, id=f"p{index}") for index in range(100_000)), "local") == 100_000
    before = os.times()
    command = [sys.executable, "-m", "rlhfv", "pairs", "list", "--text", "red fo", "--json", "--data-dir", tmp_path]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    print(f"`pairs list` on 100,000 pairs: {seconds:.2f} s of computing")
    page = json.loads(listed.stdout)
    assert page["total"] == 100_000 and [found["id"] for found in page["pairs"][:2]] == ["p99999", "p99998"]
    assert seconds < 1
