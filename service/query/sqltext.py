"""Quoting of strings and names for SQL."""


def text(value: str) -> str:
    """Quote a string as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def name(value: str) -> str:
    """Quote the name of a column."""
    return '"' + value.replace('"', '""') + '"'
