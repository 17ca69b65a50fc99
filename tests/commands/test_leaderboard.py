"""Every adapter with its figures, in a terminal."""

import json

from tests.services.made_benchmark import BENCHMARK, make_amber, make_answers, write_amber_answers


def test_the_leaderboard_names_every_adapter_and_every_set(say, scripted, tmp_path):
    make_amber(tmp_path / "data" / "benchmarks", 20)
    for title, answers in zip(("Before", "After"), make_answers(20, 6, 2, 1), strict=True):
        path = write_amber_answers(tmp_path / f"{title}.json", answers)
        assert say("benchmark", "import", BENCHMARK, path, "--title", title)[0] == 0
    code, out, _ = say("leaderboard")
    assert code == 0 and out.index("After") < out.index("Before")
    assert f"{BENCHMARK}, 20 items, counted as: exact" in out and "decoding: unknown" in out
    board = json.loads(say("leaderboard", "--json")[1])
    cover = next(column["key"] for column in board["columns"] if column["measure"] == "cover")
    again = json.loads(say("leaderboard", "--json", "--sort", cover)[1])
    assert again["sorted_by"] == cover and {voice["title"] for voice in again["voices"]} == {"Before", "After"}


def test_what_cannot_be_shown_is_told(say, scripted, tmp_path):
    folder = tmp_path / "data" / "benchmarks"
    make_amber(folder, 20)
    path = write_amber_answers(tmp_path / "mine.json", make_answers(20, 6, 2, 1)[0])
    assert say("benchmark", "import", BENCHMARK, path, "--by", "a\u202eb\x07c")[0] == 0
    code, out, told = say("leaderboard", "--sort", "nope")
    key = json.loads(say("leaderboard", "--json")[1])["sorted_by"]
    assert code == 2 and not out and "'nope'" in told and f"{key} ({BENCHMARK}, 20 items: " in told
    assert len(told.strip().splitlines()) == 3
    code, out, told = say("leaderboard")
    lines = out.splitlines()
    assert code == 0 and not told and lines[0].index("base") == len(lines[1].split()[0]) + 2
    assert len(lines[1].split()[0]) == len(lines[2]) or lines[2].startswith(lines[2].split()[0])
    folder.rename(tmp_path / "elsewhere")
    code, out, told = say("leaderboard")
    assert code == 0 and "items" not in out
    assert told.strip() == f"1 set of answers is not counted: there is no benchmark folder {folder}."
    code, _, told = say("leaderboard", "--sort", key)
    assert code == 2 and "no column" in told
