"""A service for tests: a real server in a thread, and a launcher that runs sweeps at once."""

import contextlib
import threading
import time
from dataclasses import dataclass, field

import uvicorn

from sickbay.service.api.app import create_app
from sickbay.service.query.lookup import stored_spec
from sickbay.service.server.connections import BoundedProtocol
from sickbay.service.sweeps.runner import Options, run


@dataclass
class InlineLauncher:
    """Runs a sweep where it is started, in a thread; remembers what it was asked."""

    started: list = field(default_factory=list)
    killed: list = field(default_factory=list)
    threads: list = field(default_factory=list)

    def start(self, store, sweep_id):
        self.started.append(sweep_id)
        spec = stored_spec(store, sweep_id)
        work = threading.Thread(target=run, args=(spec, store.uri, Options(in_process=True)))
        work.start()
        self.threads.append(work)

    def kill(self, store, sweep_id):
        del store
        self.killed.append(sweep_id)

    def log(self, store, sweep_id, offset):
        del store
        return f"a line of {sweep_id}\n".encode()[offset:]

    def gone(self, store, sweep_id):
        del store, sweep_id

    def pending(self, sweep_id):
        return sweep_id in self.started and any(thread.is_alive() for thread in self.threads)

    def wait(self):
        for thread in self.threads:
            thread.join()


@contextlib.contextmanager
def served(store, launcher=None, **more):
    """Serve a store on a free port of this machine; gives the URL."""
    config = uvicorn.Config(
        create_app(store, launcher or InlineLauncher(), **more),
        port=0,
        http=BoundedProtocol,
        log_config=None,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
