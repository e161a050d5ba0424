"""Tables: what each number is, how it is written, and what a table becomes on a terminal, on pages and in files.

`numbers` writes numbers, `kinds` says what each column of the store and its statistics is, `table` is what a table is,
`statistics` and `accuracy` make the tables of a statistic and of runs side by side; `terminal`, `markdown`, `html`, `latex`
and `formats` write them.
"""
