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
