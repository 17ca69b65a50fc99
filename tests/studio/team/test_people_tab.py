"""The owner lets people in and out, through the events of the page."""

import pytest

from rlhfv.errors import Forbidden, NotFound
from rlhfv.services import Services, build_services
from rlhfv.settings import Settings
from rlhfv.studio.people_view import person
from tests.studio.conftest import texts
from tests.studio.team.conftest import PASSWORD


def test_somebody_is_let_in_and_out_again(page, people, olga):
    shown = page.fire("people-add", "click", olga, " Cy ", "reviewer", PASSWORD)
    assert "Cy may sign in as reviewer" in texts(shown["people-message"]) and "Cy" in texts(shown["people-list"])
    assert shown["people-password"] == shown["people-name"] == ""
    assert people.check("Cy", PASSWORD) and "review" in people.actor("Cy").rights
    shown = page.fire("people-list", "select", olga, data={"act": "disable", "ref": "Cy"})
    assert "disabled" in texts(shown["people-list"]) and not people.check("Cy", PASSWORD)
    with pytest.raises(Forbidden):
        people.actor("Cy")
    page.fire("people-reset", "click", olga, "Cy", PASSWORD + "!")
    assert people.actor("Cy").name == "Cy"


def test_what_cannot_be_is_told_and_no_password_stays_in_its_field(page, people, olga):
    shown = page.fire("people-add", "click", olga, "Ann", "owner", PASSWORD)
    assert "already" in texts(shown["people-message"]) and shown["people-password"] == ""
    assert "characters" in texts(page.fire("people-add", "click", olga, "Cy", "owner", "short")["people-message"])
    assert "superuser" in texts(page.fire("people-add", "click", olga, "Cy", "superuser", PASSWORD)["people-message"])
    gone = page.fire("people-list", "select", olga, data={"act": "disable", "ref": "Olga"})
    assert "last owner" in texts(gone["people-message"])
    assert [user.name for user in people.users()] == ["Ann", "Bo", "Ray", "Olga"]


def test_nobody_else_sees_or_changes_them(page, people, services: Services, ann, ray):
    for other in (ann, ray):
        shown = page.fire("tab-people", "select", other)
        assert not shown["people"]["visible"] and "people-list" not in shown
        told = page.fire("people-add", "click", other, "Cy", "owner", PASSWORD)
        assert "the right 'manage'" in texts(told["people-message"])
        told = page.fire("people-list", "select", other, data={"act": "disable", "ref": "Olga"})
        assert "the right 'manage'" in texts(told["people-message"])
        with pytest.raises(Forbidden):
            services.members.list(other)
    assert len(people.users()) == 4 and all(user.enabled for user in people.users())


def test_where_nobody_signs_in_there_is_no_list(tmp_path, olga):
    with pytest.raises(NotFound, match="Nobody signs in"):
        build_services(Settings(tmp_path / "alone")).members.list(olga)


def test_who_is_signed_in_is_said(ann):
    assert texts(person(ann)).split() == "Signed in as Ann , annotator Sign out".split()
