"""Reports of a sweep: in a terminal, as HTML, Markdown, LaTeX."""
