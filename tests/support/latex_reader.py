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
    words = re.sub(r"\$[^$]*\$|\\begin\{\w+\}\{\w+\}", "", body.replace("\\$", ""))
    assert re.findall(r"(?<!\\)[#^_~]", words) == []
    assert "$" not in words
