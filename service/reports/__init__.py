"""A sweep as a person reads it: in a terminal, as HTML, Markdown, LaTeX."""
