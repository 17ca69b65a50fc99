import itertools
import json
import stat
import threading

import pytest

from rlhfv.cli import main
from rlhfv.errors import Forbidden, InvalidData, NotFound
from rlhfv.services import people as people_module
from rlhfv.services.people import ROLES, People, hash_password, verify_password

SECRET = "four words are long"


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch):
    monkeypatch.setitem(people_module.SCRYPT, "n", 2)
    monkeypatch.setattr(people_module, "_NOBODY", hash_password("nobody at all"))


@pytest.fixture
def people(tmp_path):
    return People(tmp_path / "users.json")


def test_the_file_holds_no_password_and_only_its_owner_may_read_it(people):
    people.add("Ann", "owner", SECRET)
    assert SECRET not in people.path.read_text()
    assert stat.S_IMODE(people.path.stat().st_mode) == 0o600


def test_two_users_with_one_password_have_different_hashes(people):
    assert people.add("Ann", "owner", SECRET).password != people.add("Bob", "visitor", SECRET).password


@pytest.mark.parametrize("password", [SECRET, "日本語のパスワードです。", "🧪" * 12, "lone \ud800 surrogate"])
def test_a_password_is_verified(password):
    kept = hash_password(password)
    assert verify_password(password, kept)
    assert not verify_password(password + "x", kept)


def test_signing_in(people):
    people.add("Ann", "annotator", SECRET)
    assert people.check("Ann", SECRET)
    assert not people.check("Ann", "another password")
    assert not people.check("Ann", SECRET), "after a wrong password the name has to wait"
    assert not People(people.path).check("Bob", SECRET)
    assert People(people.path).check("Ann", SECRET), "the wait belongs to the running studio"


def test_the_wait_ends(people, monkeypatch):
    people.add("Ann", "annotator", SECRET)
    assert not people.check("Ann", "another password")
    later = people_module.time.monotonic() + people_module.PATIENCE_SECONDS + 1
    monkeypatch.setattr(people_module.time, "monotonic", lambda: later)
    assert people.check("Ann", SECRET)


def test_rights_follow_the_role_and_end_with_the_account(people):
    for role, rights in ROLES.items():
        people.add(f"a {role}", role, SECRET)
        assert people.actor(f"a {role}").rights == rights
    before = people.actor("a reviewer")
    people.disable("a reviewer")
    with pytest.raises(Forbidden):
        people.actor("a reviewer")
    assert not people.check("a reviewer", SECRET)
    people.reset("a reviewer", SECRET + "!")
    assert People(people.path).check("a reviewer", SECRET + "!")
    assert people.actor("a reviewer") == before, "drafts still belong to the same person"


def test_each_role_may_do_what_the_one_before_may():
    rights = list(ROLES.values())
    assert all(smaller < larger for smaller, larger in itertools.pairwise(rights))


@pytest.mark.parametrize("name", ["", " Ann", "Ann ", "../users", "a\nb", "-rf", "x" * 65, "{{7*7}}", "\u202eAnn"])
def test_odd_names_are_refused(people, name):
    with pytest.raises(InvalidData):
        people.add(name, "visitor", SECRET)


def test_names_that_look_alike_are_refused(people):
    people.add("Ann", "visitor", SECRET)
    with pytest.raises(InvalidData, match="already"):
        people.add("ANN", "visitor", SECRET)


def test_unknown_roles_short_passwords_and_unknown_names_are_refused(people):
    with pytest.raises(InvalidData, match="roles are"):
        people.add("Ann", "root", SECRET)
    with pytest.raises(InvalidData, match="characters"):
        people.add("Ann", "owner", "short")
    with pytest.raises(NotFound):
        people.disable("Ann")
    assert people.users() == ()


def test_a_forged_role_in_the_file_gives_no_rights(people):
    people.add("Ann", "visitor", SECRET)
    people.path.write_text(people.path.read_text().replace("visitor", "superuser"))
    with pytest.raises(InvalidData):
        people.actor("Ann")


def test_a_broken_file_is_named(people):
    people.path.write_text("{")
    with pytest.raises(InvalidData, match=r"users\.json"):
        people.users()


def test_an_owner_is_needed(people):
    with pytest.raises(InvalidData, match="No owner"):
        people.require_owner()
    people.add("Ann", "owner", SECRET)
    people.require_owner()


def test_the_last_owner_stays(people):
    for name, role in (("Bo", "annotator"), ("Ann", "owner"), ("Olga", "owner")):
        people.add(name, role, SECRET)
    people.disable("Ann")
    people.disable("Bo")
    with pytest.raises(InvalidData, match="last owner"):
        people.disable("Olga")
    assert people.check("Olga", SECRET) and not people.check("Ann", SECRET)


def test_users_added_at_once_are_all_kept(people):
    adding = [
        threading.Thread(target=People(people.path).add, args=(f"user {n}", "visitor", SECRET)) for n in range(12)
    ]
    for thread in adding:
        thread.start()
    for thread in adding:
        thread.join()
    assert len(people.users()) == 12


def test_the_command_line(people, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin.readline", lambda: SECRET + "\n", raising=False)
    auth = ["--auth", str(people.path)]
    assert main(["users", "add", "Ann", "--role", "reviewer", "--password-stdin", *auth]) == 0
    assert main(["users", "disable", "Ann", *auth]) == 0
    assert main(["users", "disable", "Bob", *auth]) == 2
    capsys.readouterr()
    assert main(["users", "list", "--json", *auth]) == 0
    assert json.loads(capsys.readouterr().out) == [{"name": "Ann", "role": "reviewer", "enabled": False}]
