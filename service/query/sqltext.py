"""Texts and names written so that SQL takes them as they are."""


def text(value: str) -> str:
    """Write a text as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def name(value: str) -> str:
    """Write the name of a column so that SQL takes it as it is."""
    return '"' + value.replace('"', '""') + '"'
