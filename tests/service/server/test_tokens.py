"""Tokens: names, roles, and no secret at rest."""

import pytest

from sickbay.service.server.tokens import Role, create_token, find_token, list_tokens, revoke_token
from sickbay.trials.store import open_store


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


def test_a_secret_is_shown_once_and_kept_only_as_a_hash(store, tmp_path):
    secret = create_token(store, "ci", Role.SUBMIT)
    everything = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert secret.encode() not in everything
    assert find_token(list_tokens(store), secret).name == "ci"
    assert find_token(list_tokens(store), secret + "x") is None
    assert find_token((), secret) is None


def test_two_tokens_never_share_a_secret(store):
    assert create_token(store, "a", Role.READ) != create_token(store, "b", Role.READ)
    assert [token.name for token in list_tokens(store)] == ["a", "b"]


def test_roles_include_those_before_them(store):
    create_token(store, "a", Role.SUBMIT)
    token = list_tokens(store)[0]
    assert [token.allows(role) for role in Role] == [True, True, False]


def test_a_revoked_token_is_gone(store):
    secret = create_token(store, "a", Role.ADMIN)
    revoke_token(store, "a")
    assert find_token(list_tokens(store), secret) is None
    with pytest.raises(ValueError, match="no token 'a'; there are: none"):
        revoke_token(store, "a")


@pytest.mark.parametrize("name", ["", "A", "a b", "../x", "a" * 64, "é"])
def test_names_are_plain(store, name):
    with pytest.raises(ValueError, match="a token's name"):
        create_token(store, name, Role.READ)


def test_a_name_is_used_once(store):
    create_token(store, "a", Role.READ)
    with pytest.raises(ValueError, match="there is a token 'a' already"):
        create_token(store, "a", Role.READ)


def test_a_damaged_file_is_no_open_door(store, tmp_path):
    create_token(store, "a", Role.READ)
    (tmp_path / "store" / "_service" / "tokens.json").write_text("{broken")
    with pytest.raises(ValueError, match="holds no tokens"):
        list_tokens(store)
