"""The trace store: a DuckDB file with one row for each generated token, its schema, writer, reader and queries."""
