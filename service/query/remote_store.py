"""The store behind a service as a file system: all verbs that read also work over HTTP.

Each table of a sweep looks like one consolidated Parquet file, `trials/<sweep>/data.parquet`, which
is fetched once, when it is first read.
"""

import io
import json
import time
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import fs

from sickbay.trials.store.files import Store
from sickbay.trials.store.schema import TABLES

if TYPE_CHECKING:
    from sickbay.service.client import Client

ROOT = "store"
RUNNING = ("running",)


def remote_store(client: "Client", url: str) -> Store:
    """The store of a service; reading only. Raises ConnectionError or ServiceError when read."""
    return Store(fs.PyFileSystem(_Tables(client)), ROOT, url)


class _Tables(fs.FileSystemHandler):  # type: ignore[misc]
    """pyarrow's file system interface over the service's tables."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._sweeps: dict[str, str] | None = None
        self._files: dict[str, bytes] = {}

    def get_type_name(self) -> str:
        return "sickbay"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[Any]:
        return [self._info(path) for path in paths]

    def get_file_info_selector(self, selector: Any) -> list[Any]:
        """List a folder: tables below the root, sweeps below a table, one file below a sweep."""
        parts = selector.base_dir.strip("/").split("/")
        if parts == [ROOT]:
            return [self._info(f"{ROOT}/{table}") for table in TABLES]
        if len(parts) == 2 and parts[1] in TABLES:
            infos = [self._info(f"{selector.base_dir}/{sweep}") for sweep in self._known()]
            if selector.recursive:
                infos += [self._info(f"{info.path}/data.parquet") for info in list(infos)]
            return infos
        if len(parts) == 3 and parts[1] in TABLES and parts[2] in self._known():
            return [self._info(f"{selector.base_dir}/data.parquet")]
        if selector.allow_not_found:
            return []
        raise FileNotFoundError(selector.base_dir)

    def open_input_file(self, path: str) -> Any:
        return pa.PythonFile(io.BytesIO(self._read(path)), mode="r")

    def open_input_stream(self, path: str) -> Any:
        return pa.PythonFile(io.BytesIO(self._read(path)), mode="r")

    def _info(self, path: str) -> Any:
        parts = path.strip("/").split("/")
        known = len(parts) < 2 or parts[1] in TABLES
        known = known and (len(parts) < 3 or parts[2] in self._known())
        if known and len(parts) == 4 and parts[3] == "data.parquet":
            return fs.FileInfo(path, fs.FileType.File)
        folder = known and len(parts) < 4
        return fs.FileInfo(path, fs.FileType.Directory if folder else fs.FileType.NotFound)

    def _read(self, path: str) -> bytes:
        if path not in self._files:
            self._files[path] = self._fetch(path)
        return self._files[path]

    def _fetch(self, path: str) -> bytes:
        parts = path.strip("/").split("/")
        if len(parts) == 4 and parts[1] in TABLES and parts[2] in self._known():
            return self._client.table(parts[2], parts[1])
        alive = self._known().get(parts[2]) in RUNNING if len(parts) == 4 else False
        if alive and parts[1] == "_parts" and parts[3] == "driver.json":
            # a driver of the service runs it; which, does not matter here
            return json.dumps({"host": "service", "pid": 0, "at": time.time()}).encode()
        raise FileNotFoundError(path)

    def _known(self) -> dict[str, str]:
        if self._sweeps is None:
            self._sweeps = {sweep["sweep_id"]: sweep["state"] for sweep in self._client.sweeps()}
        return self._sweeps

    def _refuse(self, *anything: object) -> None:
        del anything
        raise OSError("the store of a service is read-only here: write on the service's machine")

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = _refuse
    delete_file = move = copy_file = open_output_stream = open_append_stream = _refuse
