"""What an installation gets: locks that any machine can install, and no import beyond them."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
ROOMS = ("models", "datasets", "trials", "service")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {"constraints.txt": "dependencies", "constraints-dev.txt": "dev"}
CUDA_BUILD = re.compile(r"torch|triton|(nvidia|cuda)-.*")  # left to whoever installs

# Packages of extras, or of the users' own frameworks, and the only file that may import each.
OPTIONAL = {
    "h5py": "datasets/formats/hdf5_clouds.py",
    "keras": "trials/adapters/keras.py",
    "lightning": "trials/adapters/lightning.py",
    "mlflow": "service/export/mlflow.py",
    "pytorch_lightning": "trials/adapters/lightning.py",
    "tensorboard": "trials/log_files/tensorboard.py",
    "transformers": "trials/adapters/huggingface.py",
}


def locked(name: str) -> dict[str, str]:
    """Package -> version of a lock, whose every line is `name==version`."""
    lines = (ROOT / name).read_text().splitlines()
    public = re.compile(r"([a-z0-9-]+)==(\d+(?:\.\d+)*(?:(?:a|b|rc)\d+)?(?:\.post\d+)?)")
    matches = [public.fullmatch(line) for line in lines]
    odd = [line for line, match in zip(lines, matches, strict=True) if match is None]
    assert odd == [], "a lock comes from `make lock`, which resolves from the index alone"
    versions = dict(match.groups() for match in matches if match)
    assert list(versions) == sorted(versions)
    assert len(versions) == len(lines)
    return versions


def requirements(part: str) -> list[Requirement]:
    texts = PROJECT["dependencies"]
    if part != "dependencies":
        texts = [*texts, *PROJECT["optional-dependencies"][part]]
    return [Requirement(text) for text in texts]


def imported() -> dict[str, set[str]]:
    """Every foreign package that a room imports, also inside functions -> the importing files."""
    users: dict[str, set[str]] = {}
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            for package in {name.partition(".")[0] for name in names}:
                if package not in sys.stdlib_module_names | {"sickbay"}:
                    users.setdefault(package, set()).add(path.relative_to(ROOT).as_posix())
    return users


@pytest.mark.parametrize(("lock", "part"), LOCKS.items())
def test_a_lock_meets_every_requirement_and_leaves_torch_free(lock, part):
    versions = locked(lock)
    assert [name for name in versions if CUDA_BUILD.fullmatch(name)] == []
    for requirement in requirements(part):
        name = canonicalize_name(requirement.name)
        assert name == "torch" or requirement.specifier.contains(versions[name]), requirement


def test_the_development_lock_adds_to_the_runtime_lock():
    runtime, development = locked("constraints.txt"), locked("constraints-dev.txt")
    assert runtime.items() < development.items()


def test_every_import_is_installed_with_the_runtime_lock():
    """Tests run with the development packages, so they would not notice one imported by a room."""
    installed = {*locked("constraints.txt"), "torch"}
    distributions = packages_distributions()
    beyond = {
        package: users
        for package, users in imported().items()
        if not {canonicalize_name(name) for name in distributions.get(package, [])} & installed
    }
    assert beyond == {package: {file} for package, file in OPTIONAL.items()}


def test_every_requirement_is_imported():
    distributions = packages_distributions()
    used = {
        canonicalize_name(distribution)
        for name in imported()
        for distribution in distributions.get(name, [])
    }
    assert {
        canonicalize_name(requirement.name) for requirement in requirements("dependencies")
    } <= used
