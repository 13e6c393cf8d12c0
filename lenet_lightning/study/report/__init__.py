"""The report of a study: sections, tables and plots, as HTML and Markdown."""
