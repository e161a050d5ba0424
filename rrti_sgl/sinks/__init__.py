"""Where finished samples go: the seam, and the sink in memory. Sinks that keep files are in `rrti_sgl.db.sinks`."""
