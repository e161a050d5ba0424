"""Reports from the trace store: tables, figures and pages, and the export of any query.

`report` makes and writes the whole report, `sections` says what stands in it, `figures` draws, `html` writes the page,
`exporting` finds rows, `published` holds the paper's own numbers. What a table is and how it is written: `programs/tables`.
"""
