"""Which logs lie in a folder: the files that trainers and trackers write, by their names."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from sickbay.trials.log_files.mlflow import metrics_folders
from sickbay.trials.log_files.tensorboard import event_files
from sickbay.trials.log_files.wandb import is_wandb
from sickbay.trials.logs.log import LogError
from sickbay.trials.logs.signal_names import split_of

# In the order of preference: of one run's folder the first that is there counts.
FILES = (
    ("metrics.csv", "Lightning"),
    ("results.csv", "YOLO"),
    ("result.json", "Ray Tune"),
    ("progress.csv", "Ray Tune, Stable-Baselines"),
    ("trainer_state.json", "the Hugging Face Trainer"),
    ("wandb-history.jsonl", "W&B"),
    ("*.wandb", "W&B offline"),
    ("mlflow.db", "MLflow"),
    ("history.csv", "Keras, fastai"),
    ("history.json", "Keras"),
    ("*.log.json", "OpenMMLab"),
    ("scalars.json", "MMEngine"),
    ("metrics.json*", "Detectron2"),
    ("evals_result*.json", "XGBoost"),
    ("log.csv", "a script"),
    ("*_log.csv", "Keras"),
    ("log.jsonl", "a script"),
    ("log.txt", "a script"),
    ("training.log", "a script"),
    ("train.log", "a script"),
    ("output.log", "W&B"),
    ("wandb-summary.json", "W&B"),
)
ANY_LOG = ("*.csv", "*.csv.gz", "*.tsv", "*.jsonl", "*.json", "*.log", "*.txt", "*.md", "*.out")
NEVER = (
    *("*.facts.yaml", "params.json", "hparams.yaml", "config.json", "args.json"),
    "wandb-metadata.json",
)
EPOCH_FILES = "metrics_epoch_*.json"  # AllenNLP writes a file for each epoch
INSIDE = frozenset({"files", "logs", "checkpoints", "weights", "csv", "scalars", "vis_data"})


@dataclass(frozen=True)
class Source:
    """A log to read: its path, and its name among the others of its folder."""

    path: Path
    run: str | None = None


def find_logs(path: Path) -> list[Source]:
    """The runs at a path: the file itself, or the runs of a folder.

    Raises LogError for a folder without any, and says what it looked for.
    """
    if not path.is_dir():
        return [Source(path)]
    sources = _events(path) or _mlflow(path) or _of_epochs(path) or _known(path) or _any(path)
    if not sources:
        names = ", ".join(f"{pattern} ({who})" for pattern, who in FILES[:8])
        raise LogError(
            f"{path} is a folder without a log. Looked, here and below, for TensorBoard events "
            f"(*tfevents*), {names} and others, MLflow's `metrics` folders, and any "
            f"{', '.join(ANY_LOG)}"
        )
    return sources if len(sources) > 1 else [Source(sources[0].path)]


def _events(folder: Path) -> list[Source]:
    """Folders of event files; one named after a split (`train`) belongs to the run above."""
    runs: dict[Path, None] = {}
    for file in event_files(folder):
        place = file.parent
        while place != folder and split_of(place.name) is not None:
            place = place.parent
        runs[place] = None
    return _called(folder, runs)


def epoch_files(folder: Path) -> list[Path]:
    """The files of a run that writes one for each epoch, in the order of the epochs."""
    return sorted(folder.glob(EPOCH_FILES), key=lambda file: (len(file.name), file.name))


def _of_epochs(folder: Path) -> list[Source]:
    return _called(folder, sorted({file.parent for file in folder.rglob(EPOCH_FILES)}))


def _known(folder: Path) -> list[Source]:
    """The best known log of each run's folder; folders inside a run (`files`) belong to it."""
    best: dict[Path, tuple[int, Path]] = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        rank = next((i for i, (p, _) in enumerate(FILES) if fnmatch(file.name, p)), None)
        if (
            rank is None
            or (file.suffix == ".wandb" and not is_wandb(file))
            or any(fnmatch(file.name, pattern) for pattern in NEVER)
        ):
            continue
        place = _run_folder(folder, file)
        if place not in best or (rank, _newest(file)) < (best[place][0], _newest(best[place][1])):
            best[place] = (rank, file)
    return _called(folder, [file for _, file in best.values()], best)


def _run_folder(folder: Path, file: Path) -> Path:
    place = file.parent
    while place != folder and (place.name in INSIDE or place.name.startswith("checkpoint-")):
        place = place.parent
    return place


def _newest(file: Path) -> int:
    """Sorts `checkpoint-1000` before `checkpoint-500`: the last state holds the whole history."""
    step = file.parent.name.rpartition("-")[2]
    return -int(step) if step.isdigit() else 0


def _mlflow(folder: Path) -> list[Source]:
    folders = metrics_folders(folder)
    return _called(folder, folders, [path.parent for path in folders])


def _any(folder: Path) -> list[Source]:
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if file.is_file()
        and any(fnmatch(file.name, pattern) for pattern in ANY_LOG)
        and not any(fnmatch(file.name, pattern) for pattern in NEVER)
    ]
    return _called(folder, files)


def _called(
    folder: Path, paths: Iterable[Path], names: Iterable[Path] | None = None
) -> list[Source]:
    """Sources, named by their paths, or unique names, below the folder."""
    log_paths = list(paths)
    return [
        Source(path, name.relative_to(folder).as_posix() if folder in name.parents else name.name)
        for path, name in zip(log_paths, log_paths if names is None else names, strict=True)
    ]
