"""The identity of data in files: what makes trials on other data other trials."""

import hashlib
from pathlib import Path


def tree_identity(root: str, generated: str) -> str:
    """Hash the names and sizes of the files below a root; generated data need no identity.

    A root that is not a folder has none either: reading it raises the error.
    """
    folder = Path(root)
    if root == generated or not folder.is_dir():
        return ""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listing = [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files]
    return hashlib.sha256(repr(listing).encode()).hexdigest()
