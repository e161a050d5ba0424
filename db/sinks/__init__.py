"""Sinks that keep what they take in files: a DuckDB file, a folder of Parquet parts."""
