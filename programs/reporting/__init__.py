"""Reports from the trace store: tables, figures and pages, and the export of any query.

`report` makes and writes the whole report, `sections` says what stands in it, `table` is what a table is, `figures` draws,
`markdown`, `html` and `latex` write pages, `formats` exports rows, `published` holds the paper's own numbers.
"""
