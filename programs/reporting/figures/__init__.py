"""Figures of the report, one module each: aggregated query results in, a Matplotlib figure out."""
