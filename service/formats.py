"""Formats of reports, pictures and exports. No heavy imports: the command line loads it."""

from enum import StrEnum


class ReportFormat(StrEnum):
    """Format of a report."""

    HTML = "html"
    MARKDOWN = "md"
    LATEX = "latex"


class FigureFormat(StrEnum):
    """Format of a picture written to its own file."""

    PNG = "png"
    SVG = "svg"
    PDF = "pdf"


class ExportFormat(StrEnum):
    """Format of exported tables."""

    CSV = "csv"
    PARQUET = "parquet"
    LATEX = "latex"


class Tracker(StrEnum):
    """The trackers to which trials can be exported."""

    MLFLOW = "mlflow"
    WANDB = "wandb"
    TENSORBOARD = "tensorboard"
