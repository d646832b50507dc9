"""The setting `dataset` that all built-in systems share: generated data, or a folder of files."""

from sickbay.datasets.formats.file_trees import tree_identity
from sickbay.trials.contract import Config

SYNTHETIC = "synthetic"


def data_identity(config: Config) -> str:
    """Hash the names and sizes of the files below a real root; generated data need no identity."""
    return tree_identity(str(config["dataset"]), SYNTHETIC)
