"""What reports, their pictures and exports are written as. Light: the command line imports it."""

from enum import StrEnum


class ReportFormat(StrEnum):
    """What a report is written as."""

    HTML = "html"
    MARKDOWN = "md"
    LATEX = "latex"


class FigureFormat(StrEnum):
    """What a picture on its own is written as."""

    PNG = "png"
    SVG = "svg"
    PDF = "pdf"


class ExportFormat(StrEnum):
    """What tables are exported as."""

    CSV = "csv"
    PARQUET = "parquet"
    LATEX = "latex"


class Tracker(StrEnum):
    """The trackers whose own files trials are exported to."""

    MLFLOW = "mlflow"
    WANDB = "wandb"
    TENSORBOARD = "tensorboard"
