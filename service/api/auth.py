"""The dependency of a route that needs a role."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from sickbay.service.server.errors import ApiError
from sickbay.service.server.tokens import Role, Token

_bearer = HTTPBearer(auto_error=False, description="a token made by `sickbay token create`")


def need(role: Role) -> Callable[..., Coroutine[Any, Any, Token]]:
    """Route dependency: the caller's token, if its role includes this one."""

    async def check(
        request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Token:
        token: Token = request.app.state.guard.caller(given.credentials if given else None)
        if not token.allows(role):
            raise ApiError(
                403,
                f"the token {token.name!r} has the role {token.role}; this request needs {role}",
            )
        return token

    return check
