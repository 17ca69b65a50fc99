import pandas as pd

from rlhfv.studio.app import read_asset
from rlhfv.studio.curves import MAX_POINTS, PLOTS, SHADES, Records, colour_map, frame, thin


def step(number, **fields):
    return {"kind": "step", "step": number, **fields}


def test_each_event_is_read_once():
    events, asked = [step(1, loss=0.7), {"kind": "warn", "what": "Careful."}], []

    def read(run_id, offset):
        asked.append(offset)
        return events[offset:], len(events)

    records = Records()
    record = records.get("run", read)
    assert (len(record.steps), len(record.notes), record.version) == (1, 1, 1)
    assert records.get("run", read).version == 1, "nothing new"
    events.append(step(2, loss=0.6))
    assert [each["step"] for each in records.get("run", read).steps] == [1, 2]
    assert asked == [0, 2, 2]


def test_a_run_whose_file_began_again_is_read_anew():
    events = [step(1), step(2)]
    records = Records()
    records.get("run", lambda _, offset: (events[offset:], len(events)))
    fresh = [step(1)]
    record = records.get("run", lambda _, offset: (fresh[offset:], len(fresh)))
    assert len(record.steps) == 1


def test_only_the_last_runs_are_kept():
    records = Records(keep=2)
    for name in "abc":
        records.get(name, lambda _, offset: ([step(1)], 1))
    assert list(records._records) == ["b", "c"]


def test_a_plot_names_every_line_from_the_first():
    empty = frame({"run": []}, PLOTS[0][2])
    assert list(empty["line"]) == ["train", "held out"] and empty["value"].isna().all()
    first = frame({"run": [step(1, loss=0.7)]}, PLOTS[0][2])
    assert list(first["line"]) == ["train", "held out", "train"]
    assert list(first["value"].dropna()) == [0.7]
    assert pd.api.types.is_float_dtype(first["step"]) and pd.api.types.is_float_dtype(first["value"])


def test_lines_are_named_by_run_only_where_there_are_several():
    steps = [step(1, loss=0.7, eval_loss=None), step(2, loss=0.6, eval_loss=0.65)]
    one = frame({"A": steps}, PLOTS[0][2])
    assert list(one.dropna()["line"]) == ["train", "train", "held out"]
    both = frame({"A": steps, "B": steps}, PLOTS[0][2])
    assert set(both["line"]) == {"A · train", "A · held out", "B · train", "B · held out"}


def test_thinning_keeps_the_ends():
    points = thin(list(range(10_000)))
    assert len(points) == MAX_POINTS and points[0] == 0 and points[-1] == 9999
    assert thin([1, 2]) == [1, 2]


def test_every_line_has_a_colour_and_the_legend_shows_the_same():
    steps = [step(1, loss=0.7, eval_loss=0.7)]
    for titles in (["A"], ["A", "B"], [f"run {number}" for number in range(len(SHADES))]):
        for _, _, lines in PLOTS:
            colours = colour_map(titles, lines)
            drawn = frame(dict.fromkeys(titles, steps), lines)
            assert set(drawn["line"]) == set(colours)
            assert len(set(colours.values())) == len(colours)
    css = read_asset("studio.css")
    for number, (dark, light) in enumerate(SHADES):
        assert f".shade-{number} {{ --dark: {dark}; --light: {light}; }}" in css
