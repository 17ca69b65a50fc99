"""Pairs in and out in other people's formats, with the rights and states of this studio."""

import json
from dataclasses import replace

import pytest

from rlhfv.errors import Forbidden, InvalidData
from rlhfv.services import Actor, build_services
from rlhfv.services.actor import RIGHTS
from rlhfv.services.limits import DEEDS, Limits, TooMany
from rlhfv.services.terms import Terms, TermsMissing
from rlhfv.services.transfer import MAX_GUEST_ROWS
from rlhfv.settings import Settings
from tests.publishing.formats.rows import read_parquet, rlhfv_row, texts, with_metadata, write_parquet

VISITOR = frozenset({"chat", "correct"})


@pytest.fixture
def rows(tmp_path):
    rows = [rlhfv_row(1, with_metadata(1)), rlhfv_row(2, text="{"), rlhfv_row(3)]
    write_parquet(rows, tmp_path / "rows.parquet")
    return rows


def test_rows_come_in_and_go_out_byte_for_byte(services, ada, rows, tmp_path):
    seen = []
    report = services.corrections.import_from(ada, tmp_path / "rows.parquet", progress=seen.append)
    assert (report.format, report.pairs, report.changed, seen) == ("rlhf-v", 2, 2, [1, 2, 3])
    assert "text" in report.told_by
    (problem,) = report.problems
    assert problem.row == 2 and problem.what and problem.why and problem.fix
    assert services.corrections.losses(ada, "rlhf-v") == []
    assert services.corrections.export_to(ada, tmp_path / "out", "rlhf-v") == 2
    assert read_parquet(tmp_path / "out" / "RLHF-V-Dataset.parquet") == [rows[0], rows[2]]
    again = services.corrections.import_from(ada, tmp_path / "rows.parquet", "rlhf-v")
    assert (again.told_by, again.pairs, again.changed) == ("", 2, 0)


def test_pairs_can_be_changed_and_go_out_changed(services, ada, rows, tmp_path):
    services.corrections.import_from(ada, tmp_path / "rows.parquet")
    pair = services.corrections.find(ada).pairs[0]
    services.corrections.delete(ada, pair.id)
    assert services.corrections.export_to(ada, tmp_path / "out", "rlhf-v") == 1


def test_the_own_format_is_told_too(services, ada, rows, tmp_path):
    services.corrections.import_from(ada, tmp_path / "rows.parquet")
    services.corrections.export_to(ada, tmp_path / "out", "jsonl")
    other = build_services(Settings(data_dir=tmp_path / "other", model="scripted"))
    report = other.corrections.import_from(ada, tmp_path / "out")
    assert (report.format, report.pairs) == ("jsonl", 2)
    assert [replace(pair, revision=1) for pair in other.corrections.find(ada).pairs] == [
        *services.corrections.find(ada).pairs
    ]


def test_the_pairs_of_others_stay_theirs(services, ada, bob, rows, tmp_path):
    services.corrections.import_from(ada, tmp_path / "rows.parquet")
    public = build_services(
        Settings(data_dir=services.corrections.settings.data_dir, model="scripted", single_user=False)
    )
    public.corrections.set_terms(bob, Terms())
    report = public.corrections.import_from(bob, tmp_path / "rows.parquet")
    assert report.pairs == 0 and len(report.problems) == 3, "rows of others are told, one by one"
    assert public.corrections.losses(bob, "trl") == []
    with pytest.raises(InvalidData, match="no pair that the format can carry"):
        public.corrections.export_to(bob, tmp_path / "out", "trl")


def test_in_a_team_an_import_waits_for_a_review(tmp_path, rows, services):
    team = build_services(Settings(data_dir=tmp_path / "team", model="scripted", single_user=False, team=True))
    annotator, owner = Actor("a" * 32, "Ada", VISITOR | {"annotate"}), Actor("b" * 32, "Bob", RIGHTS)
    team.corrections.set_terms(annotator, Terms())
    team.corrections.import_from(annotator, tmp_path / "rows.parquet")
    with pytest.raises(InvalidData):
        team.corrections.export_to(owner, tmp_path / "none", "rlhf-v")
    (tmp_path / "more.jsonl").write_text(json.dumps(texts(9)))
    team.corrections.import_from(owner, tmp_path / "more.jsonl")
    assert team.corrections.export_to(owner, tmp_path / "out", "jsonl") == 1


def test_a_dataset_of_the_hub_needs_the_right_to_manage(services):
    visitor = Actor("v" * 32, "", VISITOR)
    with pytest.raises(Forbidden):
        services.corrections.import_from(visitor, "openbmb/RLHF-V-Dataset")
    with pytest.raises(Forbidden):
        services.corrections.losses(Actor("x" * 32, "", frozenset()), "jsonl")


def write_rows(path, count):
    path.write_text("".join(json.dumps(texts(number)) + "\n" for number in range(count)))
    return path


def test_what_a_guest_imports_is_theirs_and_under_their_terms(services, ada, tmp_path):
    """A file can say anything of who made it and what they agreed to."""
    services.corrections.set_terms(ada, Terms("cc0-1.0", True, "Somebody Famous"))
    write_rows(tmp_path / "rows.jsonl", 3)
    services.corrections.import_from(ada, tmp_path / "rows.jsonl")
    forged = services.corrections.mine(ada)
    claims = {"annotator": "Somebody Famous", "licence": "cc0-1.0", "consent": True}
    forged = [replace(pair, provenance=replace(pair.provenance, **claims)) for pair in forged]
    (tmp_path / "forged.jsonl").write_text("".join(json.dumps(pair.to_row()) + "\n" for pair in forged))
    for team in (False, True):
        public = build_services(
            Settings(data_dir=tmp_path / f"public {team}", model="scripted", single_user=False, team=team)
        )
        guest = Actor("g" * 32, "Gus" if team else "", VISITOR)
        with pytest.raises(TermsMissing):
            public.corrections.import_from(guest, tmp_path / "forged.jsonl")
        public.corrections.set_terms(guest, Terms("cc-by-nc-4.0", False, "G."))
        assert public.corrections.import_from(guest, tmp_path / "forged.jsonl").pairs == 3
        origins = [pair.provenance for pair in public.corrections.mine(guest)]
        assert {(one.annotator, one.licence, one.consent) for one in origins} == {
            ("Gus" if team else "G.", "cc-by-nc-4.0", False)
        }
        owner = Actor("o" * 32, "Ola", RIGHTS)
        assert public.corrections.import_from(owner, write_rows(tmp_path / "many.jsonl", 250)).pairs > 240


def test_each_row_of_a_guest_counts(services, tmp_path):
    public = build_services(Settings(data_dir=tmp_path / "public", model="scripted", single_user=False))
    guest = Actor("g" * 32, "", VISITOR)
    public.corrections.set_terms(guest, Terms())
    with pytest.raises(InvalidData, match=f"more than {MAX_GUEST_ROWS} rows"):
        public.corrections.import_from(guest, write_rows(tmp_path / "many.jsonl", MAX_GUEST_ROWS + 1))
    assert public.corrections.find(guest).total == 0
    public.corrections.limits = Limits(2, 0)
    each = int(2 * DEEDS["correction"][0])
    assert public.corrections.import_from(guest, write_rows(tmp_path / "some.jsonl", each)).pairs == each
    with pytest.raises(TooMany):
        public.corrections.import_from(guest, write_rows(tmp_path / "one.jsonl", 1))
