import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sickbay.trials import registry
from sickbay.trials.detector import signals_read
from sickbay.trials.registry import RegistryError

WORKLOAD_SOURCE = """
import dataclasses
from sickbay_demo.task import WORKLOAD as TOY
WORKLOAD = dataclasses.replace(TOY, name={name!r})
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a distribution with entry points on the path, as `pip install --target` would."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    made = []

    def install(package: str, entries: dict[str, dict[str, str]], **modules: str) -> Path:
        info = site / f"{package.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = []
        for group, names in entries.items():
            lines += [f"[{group}]", *(f"{name} = {target}" for name, target in names.items()), ""]
        (info / "entry_points.txt").write_text("\n".join(lines))
        for module, source in modules.items():
            (site / f"{module}.py").write_text(source)
            made.append(module)
        registry._entries_on.cache_clear()
        return site

    yield install
    registry._entries_on.cache_clear()
    for module in made:
        sys.modules.pop(module, None)


def workload_entry(name, target, package="my-package"):
    return (package, {"sickbay.workloads": {name: target}})


def errors(entries):
    return {entry.name: entry.error for entry in entries if entry.error}


def test_the_built_in_ones_come_through_the_same_door():
    names = {entry.name: entry.package for entry in registry.workload_entries()}
    assert names["mvm_orientation"] == "sickbay"
    detectors = {entry.name for entry in registry.detector_entries()}
    assert {"divergence", "no_skill", "mixture_collapse"} <= detectors


def test_an_installed_workload_is_found_by_name(install):
    install(
        *workload_entry("mine", "my_task:WORKLOAD"), my_task=WORKLOAD_SOURCE.format(name="mine")
    )
    assert registry.workload("mine").name == "mine"
    entry = next(e for e in registry.workload_entries() if e.name == "mine")
    assert (entry.target, entry.package, entry.error) == ("my_task:WORKLOAD", "my-package", None)


def test_an_installed_detector_is_found_by_name_and_among_all(install):
    entries = {"sickbay.detectors": {"toy_small_validation": "sickbay_demo.alarm:detect"}}
    install("alarms", entries)
    assert registry.detector("toy_small_validation").version == "1.0"
    assert "toy_small_validation" in {each.name for each in registry.all_detectors()}


def test_a_plain_function_is_a_detector(install):
    source = "def detect(history):\n    raise NotImplementedError\n"
    install("alarms", {"sickbay.detectors": {"plain": "plain_alarm:detect"}}, plain_alarm=source)
    assert registry.detector("plain").name == "plain"


def test_a_workload_may_be_named_by_its_module():
    assert registry.workload("sickbay_demo.task:WORKLOAD").name == "toy_quadratic"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mvm_orientatoin", "no workload 'mvm_orientatoin'. Did you mean 'mvm_orientation'?"),
        ("mvm", "Installed: "),
        ("", "no workload ''"),
        ("no_such_package.task:WORKLOAD", "no module 'no_such_package': is it installed"),
        ("sickbay_demo.nothing:WORKLOAD", "no module 'sickbay_demo.nothing'"),
        ("sickbay_demo.task:NOTHING", "has no attribute 'NOTHING'"),
        ("sickbay_demo.task:", 'not of the form "module:ATTRIBUTE"'),
        (":WORKLOAD", 'not of the form "module:ATTRIBUTE"'),
        ("sickbay_demo.task:train", "is a function, not a"),
    ],
)
def test_a_name_that_leads_nowhere_says_what_to_do(name, says):
    with pytest.raises(RegistryError) as caught:
        registry.workload(name)
    assert says in str(caught.value)


def test_an_unknown_detector_names_the_nearest():
    with pytest.raises(
        RegistryError, match=r"no detector 'divergense'\. Did you mean 'divergence'"
    ):
        registry.detector("divergense")


def test_a_broken_plugin_is_listed_with_its_error_and_blocks_no_other(install):
    broken = {
        "absent": "absent_module:WORKLOAD",
        "unparsable": "unparsable:WORKLOAD",
        "raising": "raising:WORKLOAD",
        "exiting": "exiting:WORKLOAD",
        "leaving": "leaving:WORKLOAD",
        "wanting": "wanting:WORKLOAD",
        "wrong_type": "json:loads",
        "misnamed": "sickbay_demo.task:WORKLOAD",
        "malformed": "json",
    }
    install(
        "wrecks",
        {"sickbay.workloads": broken},
        unparsable="def (:\n",
        raising="raise RuntimeError('no licence')\n",
        exiting="raise SystemExit(3)\n",
        leaving="import os\nos._exit(0)\n",
        wanting="import a_library_that_is_not_there\n",
    )
    install(
        *workload_entry("mine", "my_task:WORKLOAD"), my_task=WORKLOAD_SOURCE.format(name="mine")
    )
    assert set(errors(registry.workload_entries())) == {"absent", "unparsable", "malformed"}
    assert "raising" not in sys.modules
    reasons = errors(registry.workload_entries(load=True))
    assert broken.keys() <= reasons.keys()
    assert "there is no module 'absent_module'" in reasons["absent"]
    assert "invalid syntax" in reasons["unparsable"]
    assert "RuntimeError: no licence" in reasons["raising"]
    assert "SystemExit: 3" in reasons["exiting"]
    assert "its module calls os._exit(0) when it is imported" in reasons["leaving"]
    assert "No module named 'a_library_that_is_not_there'" in reasons["wanting"]
    assert "is a function" in reasons["wrong_type"]
    assert "calls itself 'toy_quadratic': give both one name" in reasons["misnamed"]
    assert "mine" not in reasons
    assert registry.workload("mine").name == "mine"


def test_a_broken_detector_is_left_out_of_all(install):
    install("wrecks", {"sickbay.detectors": {"wreck": "json:no_such", "number": "math:pi"}})
    reasons = errors(registry.detector_entries(load=True))
    assert "has no attribute 'no_such'" in reasons["wreck"]
    assert "is a float" in reasons["number"]
    assert not {"wreck", "number"} & {each.name for each in registry.all_detectors()}


def test_one_name_from_two_packages_is_an_error_that_names_both(install):
    install(
        *workload_entry("mine", "my_task:WORKLOAD"), my_task=WORKLOAD_SOURCE.format(name="mine")
    )
    install(*workload_entry("mine", "other_task:WORKLOAD", "their-package"))
    with pytest.raises(RegistryError, match="registered by my-package and by their-package"):
        registry.workload("mine")
    twice = [entry for entry in registry.workload_entries() if entry.name == "mine"]
    assert len(twice) == 2
    assert all("uninstall one of them" in str(entry.error) for entry in twice)


def test_listing_imports_no_plugin(tmp_path):
    """In a fresh process: no torch, no workload, no detector module."""
    code = (
        "import sys, json; from sickbay.trials import registry; "
        "registry.workload_entries(); registry.detector_entries(); print(json.dumps("
        "[m for m in sys.modules if m.split('.')[0] in ('torch', 'ray') or"
        " m.startswith(('sickbay.trials.workloads', 'sickbay.trials.detectors', 'sickbay.models'))]"
        "))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert json.loads(done.stdout) == []


def test_a_real_plugin_package_installs_and_is_found(plugin_demo, tmp_path):
    """`pip install` of the demo plugin into an empty folder: both of its names can be loaded."""
    source, site = tmp_path / "source", tmp_path / "site"
    subprocess.run(["cp", "-r", plugin_demo, source], check=True)  # the build writes beside it
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    done = subprocess.run(
        [*pip, "--target", site, source], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    code = (
        "from sickbay.trials import registry;"
        "print(registry.workload('toy_quadratic').name,"
        "registry.detector('toy_small_validation').name,"
        "[e.package for e in registry.workload_entries() if e.name == 'toy_quadratic'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=tmp_path,
    )
    assert done.stdout.split() == ["toy_quadratic", "toy_small_validation", "['sickbay-demo']"], (
        done.stderr
    )


def test_the_signals_that_detectors_read(built_in):
    known = signals_read(built_in)
    assert {"val_loss", "val_tp", "val_recall", "grad_norm_p90"} <= known
    assert "epoch" not in known
    assert not any("|" in name for name in known)


def test_a_worker_that_must_end_during_an_import_is_no_broken_plugin(tmp_path, monkeypatch):
    """Ray raises its SystemExit on SIGTERM wherever the worker is, also in an import."""
    text = "error = SystemExit(); error.ray_terminate_msg = 'SIGTERM'; raise error"
    (tmp_path / "interrupted_plugin.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit):
        registry.workload("interrupted_plugin:WORKLOAD")
