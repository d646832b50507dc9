"""A small reader of LaTeX for tests: there may be no engine."""

import re


def check_latex(text):
    """A small reader of LaTeX: braces and environments close, rows have their cells."""
    body = re.sub(r"(?<!\\)%.*", "", text)
    open_environments, depth = [], 0
    for kind, name, brace in re.findall(r"\\(begin|end)\{(\w+)\}|(?<!\\)([{}])", body):
        if brace:
            depth += 1 if brace == "{" else -1
            assert depth >= 0
        elif kind == "begin":
            open_environments.append(name)
        else:
            assert open_environments.pop() == name
    assert (depth, open_environments) == (0, [])
    assert body.count("\\begingroup") == body.count("\\endgroup")
    for columns, rows in tables(body):
        for line in rows.splitlines():
            if line.endswith("\\\\") and not line.startswith(("\\caption", "\\multicolumn")):
                assert len(re.findall(r"(?<!\\)&", line)) == len(columns) - 1, line
    prose = re.sub(r"\$[^$]*\$|\\begin\{\w+\}\{\w+\}", "", body.replace("\\$", ""))
    assert re.findall(r"(?<!\\)[#^_~]", prose) == []
    assert "$" not in prose


def tables(text):
    """The tables of a text: their columns' shares of the line, and their rows."""
    return [
        ([float(share) for share in re.findall(r"([\d.]+)\\linewidth", columns)], rows)
        for columns, rows in re.findall(
            r"\\begin\{(?:tabular|longtable)\}\{([^\n]*)\}\n(.*?)\\end\{(?:tabular|longtable)\}",
            text,
            re.DOTALL,
        )
    ]


def widest_cells(text, line):
    """By how many points the widest unbreakable word of any cell is over its column, and the word.

    `line` is the width of the line in points. The widths are those of Computer Modern, which
    matplotlib ships in ten points: the fonts of eight points are a sixteenth wider than it scaled.
    """
    from matplotlib import get_data_path
    from matplotlib.ft2font import FT2Font

    font = FT2Font(f"{get_data_path()}/fonts/ttf/cmr10.ttf")
    font.set_size(8.5, 72)

    def width(word):
        font.set_text(word)
        return font.get_width_height()[0] / 64

    over = []
    for shares, rows in tables(text):
        columns = [share * line - 6.0 for share in shares]
        for row in re.findall(r"(.*?)\\\\\n", rows):
            if row.startswith(("\\caption", "\\multicolumn")):
                continue
            for cell, column in zip(re.split(r"(?<!\\)&", row), columns, strict=True):
                plain = re.sub(r"\\allowbreak\{\}|\\newline|\\-", " ", cell)
                plain = re.sub(r"\\text\w+\{(.*?)\}", r"\1", plain.replace("\\_", "_"))
                plain = re.sub(r"\\(\w+ ?|.)|[${}^]", "", plain)
                over += [(width(word) - column, word) for word in plain.split()]
    return max(over)
