"""Run the HTTP service: the application, a server for it, and the Ray that its sweeps share."""

import json
import logging
import sys
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from sickbay.service.api.app import create_app
from sickbay.service.server.connections import BoundedProtocol, connection_limit
from sickbay.service.server.guard import check_binding
from sickbay.service.server.tokens import Role
from sickbay.service.sweeps.launcher import launcher_at
from sickbay.trials.store.files import Store

FORMAT = '{"at": "%(asctime)s", "level": "%(levelname)s", "from": "%(name)s", "said": %(quoted)s}'


@dataclass(frozen=True)
class Service:
    """Where to listen, where sweeps run, and who may submit code."""

    host: str = "127.0.0.1"
    port: int = 8080
    address: str | None = None
    cpus: int | None = None
    code_role: Role | None = None
    data_roots: tuple[Path, ...] = ()


def serve(store: Store, service: Service) -> None:
    """Serve until interrupted. Raises ValueError for an address that needs a token first."""
    check_binding(service.host, store)
    log_as_json()
    limit = connection_limit()
    launcher = launcher_at(service.address, service.cpus)
    app = create_app(store, launcher, service.code_role, service.data_roots)
    uvicorn.run(
        app,
        http=type("Protocol", (BoundedProtocol,), {"limit": limit}),
        proxy_headers=False,  # whether a client is local is decided by its connection alone
        host=service.host,
        port=service.port,
        log_config=None,
        access_log=False,  # times are in /metrics; paths may name what is private
        server_header=False,
        timeout_graceful_shutdown=5,
    )


def log_as_json() -> None:
    """Log one JSON object a line on stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class _Json(logging.Formatter):
    """Puts the message, with its traceback, into one JSON string."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        said = record.getMessage()
        if record.exc_info:
            said = f"{said}\n{self.formatException(record.exc_info)}"
        record.exc_info = record.exc_text = None
        record.quoted = json.dumps(said)
        return super().format(record)
