"""Manifests and scripts: parsed, held against what their schemas require, and against the code."""

import copy
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
import yaml

from sickbay.service.cli.app import app

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
RAY = sorted((DEPLOY / "ray").glob("*.yaml"))
KUSTOMIZATION = DEPLOY / "kuberay" / "kustomization.yaml"
KUBE = sorted(set((DEPLOY / "kuberay").glob("*.yaml")) - {KUSTOMIZATION})
SCHEMA = yaml.safe_load((Path(__file__).parent / "kuberay-schema.yaml").read_text())


def documents(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def kinds(kind):
    return [document for path in KUBE for document in documents(path) if document["kind"] == kind]


def pods():
    """Every pod template of the manifests."""
    templates = [document["spec"]["template"] for document in kinds("Deployment")]
    clusters = [document["spec"] for document in kinds("RayCluster")]
    clusters += [document["spec"]["rayClusterSpec"] for document in kinds("RayJob")]
    for cluster in clusters:
        templates.append(cluster["headGroupSpec"]["template"])
        templates += [group["template"] for group in cluster["workerGroupSpecs"]]
    return templates


@pytest.mark.parametrize("path", RAY, ids=lambda path: path.name)
def test_a_cluster_file_passes_rays_own_schema(path):
    import ray

    schema_file = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"
    schema = json.loads(schema_file.read_text())
    config = yaml.safe_load(path.read_text())
    jsonschema.validate(config, schema)
    for node in config.get("available_node_types", {}).values():
        assert set(node) <= {"node_config", "resources", "min_workers", "max_workers", "docker"}
    if "head_node_type" in config:
        assert config["head_node_type"] in config["available_node_types"]


@pytest.mark.parametrize("path", KUBE, ids=lambda path: path.name)
def test_every_object_has_what_all_objects_need(path):
    for document in documents(path):
        assert {"apiVersion", "kind", "metadata", "spec"} <= set(document)
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", document["metadata"]["name"])


def problems(document, definition):
    """What a document has against a definition of the schema, as `path: message`."""
    checker = jsonschema.Draft202012Validator({**SCHEMA, "$ref": f"#/$defs/{definition}"})
    return [f"{e.json_path}: {e.message}" for e in checker.iter_errors(document)]


def test_ray_objects_and_pods_fit_their_schemas():
    assert len(kinds("RayCluster")) == len(kinds("RayJob")) == 1
    assert problems(kinds("RayCluster")[0], "raycluster") == []
    assert problems(kinds("RayJob")[0], "rayjob") == []
    assert problems(kinds("Deployment")[0]["spec"]["template"], "template") == []


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("submissionMode",), "K8sJob", "$.spec.submissionMode: 'K8sJob' is not one of"),
        (("backOffLimit",), 2, "'backOffLimit' was unexpected"),
        (("rayClusterSpec", "rayVersion"), "2.49.0", "$.spec.rayClusterSpec.rayVersion"),
        (("rayClusterSpec", "authOptions", "mode"), "tokens", "'tokens' is not one of"),
        (("rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"), 0, "not of type"),
    ],
)
def test_a_manifest_that_the_operator_refuses_does_not_fit(place, value, message):
    job = copy.deepcopy(kinds("RayJob")[0])
    part = job["spec"]
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    assert [message in problem for problem in problems(job, "rayjob")] == [True]


def test_groups_jobs_and_tokens_are_set_as_a_sweep_needs_them():
    (cluster,), (job,) = kinds("RayCluster"), kinds("RayJob")
    for spec in (cluster["spec"], job["spec"]["rayClusterSpec"]):
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        for group in spec["workerGroupSpecs"]:
            assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert job["spec"]["shutdownAfterJobFinishes"]  # ttl and Kueue need it
    assert "suspend" not in job["spec"]  # only Kueue would lift it
    assert cluster["spec"]["authOptions"] == {"mode": "token", "secretName": "sickbay-ray-token"}


def test_one_command_applies_all_but_the_job():
    config = yaml.safe_load(KUSTOMIZATION.read_text())
    assert {*config["resources"], "job.yaml"} == {path.name for path in KUBE}
    images = {c["image"] for pod in pods() for c in pod["spec"]["containers"]}
    assert {image.split(":")[0] for image in images} == {i["name"] for i in config["images"]}


def test_aws_disks_hold_the_image_that_ray_starts_there():
    """Ray's default image is AWS's deep learning AMI, whose snapshot has 140 GB."""
    nodes = yaml.safe_load((DEPLOY / "ray/aws.yaml").read_text())["available_node_types"]
    for node in nodes.values():
        (disk,) = node["node_config"]["BlockDeviceMappings"]
        assert disk["Ebs"]["VolumeSize"] >= 140
        assert node["node_config"]["IamInstanceProfile"] == {"Name": "sickbay"}


def locked_torch():
    """The build of torch that the recipes install, `torch==…`: no lock names one."""
    return re.search(r"^TORCH \?= (torch==.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]


def test_the_image_and_the_wheel_s_check_take_the_recipes_torch():
    assert f"\nARG TORCH={locked_torch()}\n" in (ROOT / "deploy/Dockerfile").read_text()
    assert f"${{TORCH:-{locked_torch()}}}" in (ROOT / "tests/wheel_smoke.sh").read_text()


def test_rays_version_is_the_locked_one():
    locked = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    for path in (*KUBE, *RAY):
        pattern = r'rayVersion: "(.+)"|rayproject/ray:([0-9.]+)-py3'
        for version in re.findall(pattern, path.read_text()):
            assert "".join(version) == locked[1]


@pytest.mark.parametrize("path", RAY, ids=lambda path: path.name)
def test_a_cluster_asks_for_a_token_and_starts_workers(path):
    config = yaml.safe_load(path.read_text())
    assert "~/.ray/auth_token" in config["file_mounts"].values()
    assert "RAY_AUTH_MODE=token" in path.read_text().partition("provider:")[2]
    starts = " ".join(config["head_start_ray_commands"])
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in starts  # else no worker ever comes
    for command in config["setup_commands"]:
        assert "'~" not in command, "a quoted tilde is no home"
        subprocess.run(["bash", "-n", "-c", command], check=True)


def test_a_cluster_s_setup_installs_this_project(tmp_path):
    """The on-premise setup, run with a home of its own and a pip that only says what it is told."""
    config = yaml.safe_load((DEPLOY / "ray" / "on-premise.yaml").read_text())
    (tmp_path / ".bashrc").touch()
    pip = tmp_path / "venv" / "bin" / "pip"
    pip.parent.mkdir(parents=True)
    pip.write_text('#!/bin/sh\nfor word; do echo "$word"; done > ~/said\n')
    pip.chmod(0o755)
    for command in (*config["setup_commands"][1:], *config["setup_commands"][1:]):
        subprocess.run(["bash", "-c", command], env={"HOME": str(tmp_path)}, check=True)
    said = (tmp_path / "said").read_text().split()
    assert said[-2:] == [f"{tmp_path}/sickbay/constraints.txt", f"{tmp_path}/sickbay[cluster]"]
    assert (tmp_path / ".bashrc").read_text().count("export PATH") == 1


def test_pods_run_unprivileged_and_state_what_they_take():
    for pod in pods():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        names = {volume["name"] for volume in spec["volumes"]}
        for container in spec["containers"]:
            assert {"requests", "limits"} <= set(container["resources"])
            assert {mount["name"] for mount in container["volumeMounts"]} <= names


def test_claims_secrets_and_services_exist_by_the_names_they_are_called():
    claims = {claim["metadata"]["name"] for claim in kinds("PersistentVolumeClaim")}
    texts = [path.read_text() for path in sorted((DEPLOY / "kuberay").iterdir())]
    for text in texts:
        assert set(re.findall(r'claimName"?: "?([a-z-]+)', text)) <= claims
        assert set(re.findall(r"secretKeyRef: {name: ([a-z-]+)", text)) <= {"sickbay-ray-token"}
    service = kinds("Deployment")[0]["spec"]["template"]["spec"]["containers"][0]
    cluster = kinds("RayCluster")[0]["metadata"]["name"]
    assert f"http://{cluster}-head-svc:8265" in service["args"]  # KubeRay's name for the head
    selector = kinds("Service")[0]["spec"]["selector"]
    assert selector == kinds("Deployment")[0]["spec"]["selector"]["matchLabels"]


def test_a_service_that_dies_is_started_again():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert compose["services"]["service"]["restart"] in ("always", "unless-stopped")
    (pod,) = [document["spec"]["template"]["spec"] for document in kinds("Deployment")]
    assert pod.get("restartPolicy", "Always") == "Always"
    assert pod["containers"][0]["livenessProbe"]["httpGet"]["path"] == "/healthz"


def test_no_secret_stands_in_a_file():
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            assert not re.search(r"(AKIA|sickbay_)[A-Za-z0-9_-]{16,}", path.read_text()), path


def test_the_compose_file_refers_to_what_it_has():
    config = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert set(config["services"]) == {"head", "worker", "service"}
    for service in config["services"].values():
        assert set(service.get("depends_on", {})) <= set(config["services"])
        for volume in service["volumes"]:
            assert volume.split(":")[0] in config["volumes"]
    published = config["services"]["service"]["ports"]
    assert all(port.startswith("127.0.0.1:") for port in published)


def commands():
    """Every `sickbay …` command line of the deployment files."""
    texts = [path.read_text() for path in DEPLOY.rglob("*") if path.is_file()]
    texts += ["\n".join(map(shlex.join, _args()))]
    for text in texts:
        yield from re.findall(r"(?:^|[\s`\"])sickbay ([a-z]+ [^\n`#]*)", text)


def _args():
    for pod in pods():
        for container in pod["spec"]["containers"]:
            yield container.get("args", ["true"])


def test_commands_use_verbs_and_options_that_exist():
    import typer.main

    group = typer.main.get_command(app)
    seen = set()
    for line in commands():
        verb, *arguments = line.replace("\\", " ").replace(",", " ").replace('"', " ").split()
        if verb not in group.commands:
            continue
        seen.add(verb)
        command = group.commands[verb]
        if arguments and arguments[0] in getattr(command, "commands", {}):
            command = command.commands[arguments[0]]
        known = {option for parameter in command.params for option in parameter.opts}
        options = {word.split("=")[0] for word in arguments if word.startswith("--")}
        assert options <= known | {"--"}, line
    assert {"serve", "run", "submit", "token"} <= seen


def test_the_slurm_script_passes_shellcheck():
    tool = shutil.which("shellcheck") or Path(sys.executable).parent / "shellcheck"
    if not Path(tool).exists():
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(
        [tool, DEPLOY / "slurm" / "sweep.sbatch"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def slurm_script(folder, sickbay):
    """The script's process; Slurm's programs and Ray are played by programs of a few lines."""
    tools = folder / "bin"
    tools.mkdir()
    played = {
        "scontrol": "echo node1",
        "srun": 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',
        "ray": f'[ "$1" = health-check ] && exit 0; echo "$@" >> {folder}/ray; exec sleep 600',
        "sickbay": sickbay,
        "hostname": "echo 10.0.0.1",
    }
    for name, lines in played.items():
        (tools / name).write_text(f"#!/bin/sh\n{lines}\n")
        (tools / name).chmod(0o755)
    venv = folder / "venv" / "bin"
    venv.mkdir(parents=True)
    (venv / "activate").write_text(f'PATH="{tools}:$PATH"\n')
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "SLURM_SUBMIT_DIR": str(folder),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SICKBAY_VENV": str(folder / "venv"),
    }
    script = DEPLOY / "slurm" / "sweep.sbatch"
    return subprocess.Popen(
        ["bash", script, "spec.yaml", "/shared/results"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_the_slurm_script_runs_a_sweep_beside_a_head_without_trials(tmp_path):
    both = f'while [ "$(wc -l < {tmp_path}/ray)" -lt 2 ]; do sleep 0.05; done'
    script = slurm_script(tmp_path, f'{both}; echo "$@" > {tmp_path}/said; exit 3')
    assert script.wait(60) == 3
    said = (tmp_path / "said").read_text().split()
    address = ["--address", "10.0.0.1:6379"]
    assert said == ["run", "spec.yaml", "--store", "/shared/results", *address]
    head, worker = sorted(
        (tmp_path / "ray").read_text().splitlines(), key=lambda line: "--head" not in line
    )
    assert "--head" in head
    assert "--num-cpus=0" in head
    assert "--address=10.0.0.1:6379" in worker
    assert "--num-cpus=1" in worker


def test_the_time_limits_warning_reaches_the_driver(tmp_path):
    driver = f"""
    trap 'touch {tmp_path}/told; exit 130' TERM
    touch {tmp_path}/began
    while :; do sleep 0.1; done
    """
    script = slurm_script(tmp_path, driver)
    ends = time.monotonic() + 60
    while not (tmp_path / "began").exists() and time.monotonic() < ends:
        time.sleep(0.05)
    script.send_signal(signal.SIGTERM)
    assert script.wait(60) == 130
    assert (tmp_path / "told").exists()


def test_the_slurm_script_says_what_it_wants():
    script = ["bash", DEPLOY / "slurm" / "sweep.sbatch"]
    wrong = subprocess.run(script, capture_output=True, text=True, check=False)
    assert (wrong.returncode, "usage:" in wrong.stderr) == (2, True)


def dockerfile():
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    return [line.split(" ", 1) for line in lines if line and not line.startswith("#")]


def test_the_image_copies_what_is_there_and_runs_unprivileged():
    steps = dockerfile()
    for word, rest in steps:
        if word == "COPY":
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
    instructions = [word for word, _ in steps]
    assert instructions.index("USER") > max(
        i for i, word in enumerate(instructions) if word == "RUN"
    )
    copied = {source for word, rest in steps if word == "COPY" for source in rest.split()[:-1]}
    packaged = re.findall(r'= "(\w+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert {"trials", "models", "datasets", "service"} & set(packaged) <= copied


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_images_steps_make_a_working_sickbay(tmp_path):
    """The COPY and pip steps replayed in a fresh folder and environment, without Docker."""
    work = tmp_path / "opt"
    work.mkdir()
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    for word, rest in dockerfile():
        if word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                path = ROOT / source
                place = work / (target if path.is_dir() else Path(target) / path.name)
                if path.is_dir():
                    shutil.copytree(path, place)
                else:
                    shutil.copy(path, place)
        elif word == "RUN" and "pip install" in rest:
            line = rest.replace("python -m pip", f"{environment}/bin/python -m pip --quiet")
            line = line.replace('--extra-index-url "$url"', "")
            environ = {**os.environ, "TORCH": locked_torch()}
            subprocess.run(["bash", "-c", line], cwd=work, env=environ, check=True)
    sickbay = environment / "bin" / "sickbay"
    done = subprocess.run(
        [sickbay, "workloads"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "mvm_orientation" in done.stdout
    assert (environment / "bin" / "ray").exists()
    code = (
        "from sickbay.service.api.routes_page import _read;"
        "print(len(_read('vendor/echarts.min.js')[0]))"
    )
    python = environment / "bin" / "python"
    page = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, check=True)
    assert int(page.stdout) > 100_000
