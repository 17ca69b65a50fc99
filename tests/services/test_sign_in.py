"""Who signed in to a Space with an account of the Hub, what they may do, and whose pairs they publish."""

import time

import pytest

from rlhfv.corrections.edits import Edit
from rlhfv.errors import Forbidden
from rlhfv.publishing.token import SignInNeeded
from rlhfv.services import Actor, build_services
from rlhfv.services.actor import RIGHTS
from rlhfv.services.people import ROLES
from rlhfv.services.sign_in import OWN_PUBLISHING, STRANGER, SignIn, stranger_rights
from rlhfv.services.terms import Terms
from rlhfv.settings import Settings, Space, read_space
from tests.hub.people import AppToken

ANN, BOB = "a" * 32, "b" * 32
ANYBODY = STRANGER | OWN_PUBLISHING


@pytest.fixture
def services(tmp_path, connect, hub):
    connect(hub.user("space"))  # the Space's own token, which is nobody's
    space = Space("lab/studio", "lab", sign_in=True)
    return build_services(Settings(data_dir=tmp_path / "data", single_user=False, space=space))


@pytest.fixture
def accounts(services):
    return SignIn(services.settings, services.publishing)


@pytest.fixture
def arrive(hub, accounts):
    """`arrive(visitor, name)` is what the page does when somebody comes back from the Hub; gives actor and token."""

    def arrive(visitor: str, name: str, scopes: str = "openid profile contribute-repos jobs", seconds: float = 3600):
        hub.user(name)
        token = hub.people.issue(AppToken(name, "app", frozenset(scopes.split()), time.time() + seconds))
        given = {"access_token": token, "userinfo": {"preferred_username": name}, "expires_at": time.time() + seconds}
        return accounts.begin(visitor, given), token

    return arrive


def correct(services, actor: Actor, number: int, picture: bytes) -> str:
    from rlhfv.corrections.conversation import Answer, ModelIdentity, Prompt, Sampling

    services.consent.agree(actor, services.consent.house.version)
    services.corrections.set_terms(actor, Terms(consent=True))
    image = services.corrections.shelf.intake(picture)
    prompt = Prompt(f"What is it, number {number}?", (image.name,))
    answer = Answer(f"a{number}", prompt, "A red dog.", ModelIdentity("m", "1"), Sampling(), actor.visitor, "2026")
    services.store.add_answer(answer)
    return services.corrections.save(actor, answer.id, answer.text, [Edit(2, 5, "blue", "attribute")]).pair_id


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("ann", "owner"),
        ("bob", "reviewer"),
        ("cai", "annotator"),
        ("dee", "annotator"),
        ("eve", None),
        ("lab", "owner"),
    ],
)
def test_members_of_the_spaces_organisation_get_their_roles(hub, arrive, name, role):
    hub.organization("lab", ann="admin", bob="write", cai="contributor", dee="read")
    hub.organization("zoo", eve="admin")
    who, _ = arrive(ANN, name)
    assert (who.name, who.rights) == (name, ANYBODY | (ROLES[role] if role else frozenset()))


def test_a_role_that_cannot_be_asked_for_is_none(hub, arrive):
    hub.organization("lab", ann="admin")
    fault = hub.fail("whoami", status=503, times=None)
    assert arrive(ANN, "ann")[0].rights == ANYBODY and fault.hits


def test_nobody_else_is_signed_in(accounts, arrive, services):
    arrive(ANN, "ann")
    assert accounts.actor(ANN).name == "ann" and accounts.actor(BOB) == Actor(BOB, rights=ANYBODY)
    with pytest.raises(SignInNeeded):
        services.publishing.push(accounts.actor(BOB), "ann/pairs")
    accounts.end(ANN)
    assert accounts.actor(ANN) == Actor(ANN, rights=ANYBODY)


def test_rights_end_with_the_token(hub, accounts, arrive, services):
    hub.organization("lab", ann="admin")
    arrive(ANN, "ann", seconds=-1)
    assert accounts.actor(ANN) == Actor(ANN, rights=ANYBODY)
    who, token = arrive(ANN, "ann")
    assert who.rights == RIGHTS and not services.publishing.has_ended(who)
    hub.people.expire(token)
    with pytest.raises(Exception, match="401"):
        services.publishing.push(who, "ann/pairs")
    assert accounts.actor(ANN) == Actor(ANN, rights=ANYBODY) and services.publishing.has_ended(who)
    with pytest.raises(SignInNeeded, match="has ended"):
        services.publishing.push(who, "ann/pairs")
    arrive(ANN, "ann")
    assert not services.publishing.has_ended(who)


@pytest.mark.parametrize(
    "given", [{}, {"access_token": "hf_" + "0" * 34}, {"userinfo": {"preferred_username": "ann"}}]
)
def test_half_an_answer_signs_nobody_in(accounts, given):
    with pytest.raises((SignInNeeded, ValueError)):
        accounts.begin(ANN, given)
    assert accounts.actor(ANN).name == ""


def test_each_publishes_their_own_pairs_and_sees_no_others_data_set(hub, arrive, services, picture):
    ann, bob = arrive(ANN, "ann")[0], arrive(BOB, "bob")[0]
    own = correct(services, ann, 1, picture)
    others = correct(services, bob, 2, picture)
    publishing = services.publishing
    status = publishing.status(ann)
    assert (status.repo, status.waiting.added) == ("ann/rlhfv-corrections", 1)
    asked = len(hub.requests)
    assert publishing.push(ann, status.repo).added == 1
    assert {request.person for request in hub.requests[asked:]} == {"ann"}
    assert publishing.published.placed(status.repo, [own, others]) == {own}
    assert hub.commits(status.repo)[0].author == "ann"
    seen = publishing.status(bob, status.repo)
    assert (seen.commit, seen.repos, seen.waiting.added) == ("", (), 1)
    assert publishing.status(bob).repo == "bob/rlhfv-corrections"
    assert publishing.status(ann).waiting.total == 0


def test_who_reviews_publishes_what_others_agreed_to(hub, arrive, services, picture):
    hub.organization("lab", bob="write")
    correct(services, arrive(ANN, "ann")[0], 1, picture)
    assert services.publishing.status(arrive(BOB, "bob")[0]).waiting.added == 1


def test_contribute_repos_reaches_only_what_the_app_made(hub, arrive, services, picture):
    from huggingface_hub import HfApi

    HfApi(endpoint=hub.endpoint, token=hub.user("ann")).create_repo("ann/diary", repo_type="dataset", private=True)
    ann, _ = arrive(ANN, "ann")
    correct(services, ann, 1, picture)
    with pytest.raises(Exception, match="does not see"):
        services.publishing.push(ann, "ann/diary")
    assert services.publishing.push(ann, "ann/new").added == 1


def test_no_token_is_typed_into_a_public_page(services, arrive, accounts, hub):
    stranger = accounts.actor(ANN)
    with pytest.raises(Forbidden, match="Sign in with Hugging Face"):
        services.publishing.sign_in_by_hand(stranger, hub.user("ann"))
    with pytest.raises(Forbidden):
        services.publishing.sign_in_as_owner(Actor(ANN, rights=RIGHTS))


def test_only_the_hub_says_whose_a_name_is(services, accounts, arrive):
    with pytest.raises(SignInNeeded):
        services.publishing.set_named(accounts.actor(ANN), True)
    services.publishing.set_named(arrive(ANN, "ann")[0], True)
    assert services.publishing.published.shown_names(["ann"]) == {"ann": "ann"}


class TestSpace:
    @pytest.fixture(autouse=True)
    def variables(self, monkeypatch):
        for name in ("SYSTEM", "SPACE_ID", "SPACE_AUTHOR_NAME", "SPACE_HOST"):
            monkeypatch.delenv(name, raising=False)
        self.set = monkeypatch.setenv
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
        for name in ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL"):
            monkeypatch.setenv(name, "x")

    def test_it_is_one_only_where_both_variables_say_so(self):
        assert read_space() is None
        self.set("SPACE_ID", "lab/studio")
        assert read_space() is None
        self.set("SYSTEM", "spaces")
        assert read_space() == Space("lab/studio", "lab", sign_in=True)
        self.set("SPACE_HOST", "lab-studio.hf.space, studio.org")
        self.set("SPACE_AUTHOR_NAME", "Lab")
        assert read_space() == Space("lab/studio", "Lab", "lab-studio.hf.space", True)

    def test_without_oauth_nobody_signs_in_there(self, monkeypatch, tmp_path):
        self.set("SPACE_ID", "lab/studio")
        self.set("SYSTEM", "spaces")
        monkeypatch.delenv("OAUTH_SCOPES")
        space = read_space()
        assert not space.sign_in
        assert stranger_rights(Settings(data_dir=tmp_path, single_user=False, space=space)) == STRANGER
        monkeypatch.setenv("OAUTH_SCOPES", "openid")
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "authlib" else name)
        assert not read_space().sign_in, "what Gradio needs for it is not installed"
