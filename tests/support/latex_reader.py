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
    for name, columns, rows in re.findall(
        r"\\begin\{(tabular|longtable)\}\{(\w+)\}(.*?)\\end\{\1\}", body, re.DOTALL
    ):
        assert name
        for line in rows.splitlines():
            if line.endswith("\\\\") and not line.startswith(("\\caption", "\\multicolumn")):
                assert len(re.findall(r"(?<!\\)&", line)) == len(columns) - 1, line
    prose = re.sub(r"\$[^$]*\$|\\begin\{\w+\}\{\w+\}", "", body.replace("\\$", ""))
    assert re.findall(r"(?<!\\)[#^_~]", prose) == []
    assert "$" not in prose


def widest_cells(text, line, size=8.0):
    """By how many points the widest unbreakable word of a table of shares is over its column.

    `line` is the width of the line in points, `size` that of the type. The widths are those of
    Computer Modern, which matplotlib ships; a table that never exceeds its columns is as wide as
    the line.
    """
    from matplotlib import get_data_path
    from matplotlib.ft2font import FT2Font

    font = FT2Font(f"{get_data_path()}/fonts/ttf/cmr10.ttf")
    font.set_size(size, 72)

    def width(word):
        font.set_text(word)
        return font.get_width_height()[0] / 64

    over = []
    for shares, rows in re.findall(
        r"\\begin\{tabular\}\{@\{\}(.*?)@\{\}\}\n(.*?)\\end\{tabular\}", text, re.DOTALL
    ):
        columns = [float(one) * line - 12.0 for one in re.findall(r"([\d.]+)\\linewidth", shares)]
        for row in re.findall(r"(.*?)\\\\\n", rows):
            for cell, column in zip(re.split(r"(?<!\\)&", row), columns, strict=True):
                plain = re.sub(r"\\allowbreak\{\}|\\newline", " ", cell)
                plain = re.sub(r"\\text\w+\{(.*?)\}", r"\1", plain.replace("\\_", "_"))
                plain = re.sub(r"\\(\w+ ?|.)|[${}^]", "", plain)
                over += [width(word) - column for word in plain.split()]
    return max(over)
