"""`score`: texts that are given, scored by both models at every position."""
