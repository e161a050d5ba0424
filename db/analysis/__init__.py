"""The statistics of the paper: each is a `.sql` file of `db/queries/` and one declaration here.

`query` says what a declaration holds, `parameters` how values are checked, `needs` what a run must have, `intervals` how a
table gets its 95 % intervals, `token_values` what is computed outside of SQL and why, `registry` which statistics there are.
`rrti_sgl.db.queries` runs them.
"""
