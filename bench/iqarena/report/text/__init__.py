"""Tables as text: cells, Markdown, terminal."""
