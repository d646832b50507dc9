"""Bearer tokens of the service: a name, a role, and only a hash of the secret at rest.

A secret is 32 random bytes, so a plain SHA-256 hides it: there is nothing to guess that a slow hash
would slow down. Tokens lie in the store (`_service/tokens.json`), as everything that must outlive a
cluster does; a secret is shown once, when it is made.
"""

import contextlib
import fcntl
import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from sickbay.trials.store.files import Store, read_file, write_file

PREFIX = "sickbay_"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class Role(StrEnum):
    """What a token allows; each role may do what those before it may."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


@dataclass(frozen=True)
class Token:
    """A token as stored: the secret itself is not."""

    name: str
    role: Role
    sha256: str
    created_at: float

    def allows(self, needed: Role) -> bool:
        """Whether this token's role includes another."""
        order = list(Role)
        return order.index(self.role) >= order.index(needed)


def list_tokens(store: Store) -> tuple[Token, ...]:
    """Every token, the oldest first. Raises ValueError if the file is damaged."""
    data = read_file(store, _path(store))
    if data is None:
        return ()
    try:
        return tuple(
            Token(**{**fields, "role": Role(fields["role"])}) for fields in json.loads(data)
        )
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{_path(store)} holds no tokens ({error}): remove it and make new ones with `sickbay "
            "token create`"
        ) from error


def create_token(store: Store, name: str, role: Role) -> str:
    """Make a token and return its secret, which is not stored. Raises ValueError for a bad name."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"a token's name is made of a-z, 0-9, '.', '_' and '-', at most 63, not {name!r}"
        )
    secret = PREFIX + secrets.token_urlsafe(32)
    with _alone(store):
        tokens = list_tokens(store)
        if any(token.name == name for token in tokens):
            raise ValueError(
                f"there is a token {name!r} already: `sickbay token revoke {name}` ends it"
            )
        _write(store, [*tokens, Token(name, role, _hash(secret), time.time())])
    return secret


def revoke_token(store: Store, name: str) -> None:
    """End a token. Raises ValueError if there is none of that name."""
    with _alone(store):
        tokens = list_tokens(store)
        kept = [token for token in tokens if token.name != name]
        if len(kept) == len(tokens):
            names = ", ".join(token.name for token in tokens) or "none"
            raise ValueError(f"there is no token {name!r}; there are: {names}")
        _write(store, kept)


def find_token(tokens: Sequence[Token], secret: str) -> Token | None:
    """The token that a secret belongs to, compared in constant time; None if no token has it."""
    mine = _hash(secret)
    matches = [token for token in tokens if hmac.compare_digest(token.sha256, mine)]
    return matches[0] if matches else None


@contextlib.contextmanager
def _alone(store: Store) -> Iterator[None]:
    """Let one process at a time change the tokens of a local store.

    An object store has no locks: there two changes at the same moment may lose one, and the list
    shows it.
    """
    if not store.is_local:
        yield
        return
    folder = Path(_path(store)).parent
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".tokens.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _write(store: Store, tokens: Sequence[Token]) -> None:
    text = json.dumps([asdict(token) for token in tokens], indent=1)
    write_file(store, _path(store), text.encode(), durable=True)


def _path(store: Store) -> str:
    return f"{store.root}/_service/tokens.json"
