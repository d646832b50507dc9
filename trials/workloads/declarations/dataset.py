"""The setting `dataset` that all built-in systems share: generated data, or a folder of files."""

import hashlib
from pathlib import Path

from sickbay.datasets.formats.file_trees import tree_identity
from sickbay.trials.contract import Config

SYNTHETIC = "synthetic"


def file_identity(path: str) -> str:
    """Hash the content of a file that a setting names; none for an empty setting or no file."""
    file = Path(path)
    if not path or not file.is_file():
        return ""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def data_identity(config: Config) -> str:
    """Hash the names and sizes of the files below a real root; generated data need no identity."""
    return tree_identity(str(config["dataset"]), SYNTHETIC)
