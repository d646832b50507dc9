"""Files of a store: where they stand, how they are written whole or not at all, how they are read.

<store>/<table>/<sweep>/data.parquet     one file a table and sweep, replaced as a whole
<store>/<table>/+schema.parquet          no rows: the columns of all sweeps (see docs/store.md)
<store>/_parts/<sweep>/<trial>/…         what workers write while a sweep runs
<store>/_output/<sweep>/<trial>.txt      what a trial's script printed
<store>/_parts/<sweep>/control.json      a request to stop or cancel
"""

import contextlib
import errno
import os
import re
import stat
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class StoreError(OSError):
    """The store cannot be opened, read or written. The message names the path and what to do."""


@dataclass(frozen=True)
class Store:
    """A folder on any file system that pyarrow opens. Plain data: reopen it by its `uri`."""

    filesystem: Any
    root: str
    uri: str

    @property
    def absolute(self) -> str:
        """The URI under which any process of this machine opens the same store."""
        return self.root if self.is_local else self.uri

    @property
    def shown(self) -> str:
        """The URI for display, without credentials."""
        return shown_uri(self.uri)

    @property
    def is_local(self) -> bool:
        """Whether files can be replaced atomically by a rename on this machine."""
        return bool(self.filesystem.type_name == "local")


def open_store(uri: str, *, create: bool = True) -> Store:
    """Open the store at a path or a URI (`s3://…`, `gs://…`, whatever pyarrow opens).

    `create` makes a missing local folder. Raises StoreError for an unknown kind of URI, a path that
    is a file, or a folder that is missing or cannot be made.
    """
    store = locate_store(uri)
    if store.is_local:
        _check_folder(store, create=create)
    return store


def shown_uri(uri: str) -> str:
    """A URI without the credentials before its `@`."""
    return re.sub(r"://[^/@]*@", "://…@", uri)


def locate_store(uri: str) -> Store:
    """Say where a store is or would be; one that is not there reads as empty.

    Raises StoreError for an unknown kind of URI.
    """
    text = str(uri)
    if "://" in text:
        try:
            filesystem, root = fs.FileSystem.from_uri(text)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise StoreError(
                f"cannot open the store {shown_uri(text)!r}: {error}. Give a folder, or a URI that"
                " pyarrow opens, like s3://bucket/folder or gs://bucket/folder"
            ) from error
    else:
        try:
            filesystem, root = fs.LocalFileSystem(), str(Path(text).expanduser().absolute())
        except FileNotFoundError as error:  # of the current folder
            raise StoreError(
                f"cannot find the store {text!r}: the current folder was deleted. Change to another"
                " folder, or give the store's whole path"
            ) from error
    return Store(filesystem, root.rstrip("/") or "/", text)


def table_folder(store: Store, table: str) -> str:
    """Name the folder of a table."""
    return f"{store.root}/{table}"


def table_file(store: Store, table: str, sweep_id: str) -> str:
    """Name the one file of a table and a sweep."""
    return f"{store.root}/{table}/{checked(sweep_id, 'sweep')}/data.parquet"


def schema_file(store: Store, table: str) -> str:
    """Name the row-less file that tells other readers the columns of all sweeps."""
    return f"{store.root}/{table}/+schema.parquet"


def parts_root(store: Store) -> str:
    """Name the folder in which workers write, one folder a sweep."""
    return f"{store.root}/_parts"


def sweep_parts(store: Store, sweep_id: str) -> str:
    """Name the folder in which the workers of a sweep write."""
    return f"{parts_root(store)}/{checked(sweep_id, 'sweep')}"


def trial_parts(store: Store, sweep_id: str, trial_id: str) -> str:
    """Name the folder in which the worker of a trial writes."""
    return f"{sweep_parts(store, sweep_id)}/{checked(trial_id, 'trial')}"


def output_file(store: Store, sweep_id: str, trial_id: str) -> str:
    """Name the file with what a trial's script printed."""
    return f"{store.root}/_output/{checked(sweep_id, 'sweep')}/{checked(trial_id, 'trial')}.txt"


def is_id(name: str) -> bool:
    """Whether a name can be that of a sweep or trial: what else lies in a store is not ours."""
    return _NAME.fullmatch(name) is not None


def checked(name: str, what: str) -> str:
    """Pass a name that is safe as a folder. Raises ValueError for any other."""
    if not is_id(name):
        raise ValueError(
            f"{name!r} is not a valid {what} id: allowed are letters, digits, '.', '_' and '-',"
            " starting with a letter or digit, at most 128"
        )
    return name


def write_file(store: Store, path: str, data: bytes, *, durable: bool = False) -> None:
    """Replace a file as a whole: a reader sees the old bytes or the new ones, also after a kill.

    Locally by a hidden temporary file and a rename; `durable` also waits for the disk. Elsewhere an
    object appears when it is closed. Raises StoreError, and then leaves the old file.
    """
    try:
        try:
            _write(store, path, data, durable=durable)
        except FileNotFoundError:
            store.filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            _write(store, path, data, durable=durable)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"cannot write {path}: {_advice(error)}") from error


def read_file(store: Store, path: str) -> bytes | None:
    """Read the bytes of a file, None if there is none. Raises StoreError if it cannot be read."""
    try:
        with store.filesystem.open_input_stream(path) as stream:
            return bytes(stream.read())
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"cannot read {path}: {_advice(error)}") from error


def file_info(store: Store, path: str) -> fs.FileInfo:
    """Size and time of a file, which may not be there. Raises StoreError if nothing answers."""
    try:
        return store.filesystem.get_file_info(path)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"cannot read {path}: {_advice(error)}") from error


LISTINGS = 10  # attempts to list a folder that others change meanwhile


def list_folder(store: Store, path: str, *, recursive: bool = False) -> list[Any]:
    """List a folder as pyarrow's FileInfo sorted by path; empty if there is no such folder."""
    selector = fs.FileSelector(path, recursive=recursive, allow_not_found=True)
    for left in reversed(range(LISTINGS)):
        try:
            return sorted(store.filesystem.get_file_info(selector), key=lambda info: info.path)
        except (OSError, pa.ArrowException) as error:
            # a merge removed a folder while it was listed: the next listing does without it
            if isinstance(error, FileNotFoundError) and left:
                continue
            raise StoreError(f"cannot list {path}: {_advice(error)}") from error
    raise AssertionError("the last listing returns or raises")


def remove_file(store: Store, path: str) -> None:
    """Remove a file; it may be gone already."""
    with _removing(path):
        store.filesystem.delete_file(path)


def remove_folder(store: Store, path: str) -> None:
    """Remove a folder with all that is in it; it may be gone already."""
    with _removing(path):
        store.filesystem.delete_dir(path)


def private_folder(path: Path) -> Path:
    """Make a local folder that no other user can have prepared, and give it; others are refused.

    Raises StoreError where something else stands under its name, such as a link to elsewhere.
    """
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise StoreError(
            f"{path} should be a folder of this user's, and is not: remove it, or set TMPDIR"
        )
    return path


def remove_empty(store: Store, path: str) -> None:
    """Remove a local folder if nothing is in it; an object store knows no empty folders."""
    if store.is_local:
        with contextlib.suppress(OSError):
            Path(path).rmdir()


@contextlib.contextmanager
def _removing(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        pass
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"cannot remove {path}: {_advice(error)}") from error


def _write(store: Store, path: str, data: bytes, *, durable: bool) -> None:
    if not store.is_local:
        with store.filesystem.open_output_stream(path) as stream:
            stream.write(data)
        return
    folder, _, name = path.rpartition("/")
    temporary = f"{folder}/.{name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with Path(temporary).open("xb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            Path(temporary).unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    # A rename is on disk only when its folder is.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_folder(store: Store, *, create: bool) -> None:
    root = Path(store.root)
    if root.is_dir():
        return
    if root.exists():
        raise StoreError(f"the store {store.root} is a file: give a folder")
    if not create:
        raise StoreError(
            f"there is no store at {store.root}: run a sweep first, or say where it is with --store"
            " or SICKBAY_STORE"
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make the store {store.root}: {_advice(error)}") from error


def _advice(error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number in _FULL:
        return f"{error}. The disk or quota is full: free some space, then resume the sweep"
    if number in _FORBIDDEN:
        return (
            f"{error}. It is read-only for you: change its permissions, or choose another --store"
        )
    return f"{error}"
