"""Decoding loops: lockstep, the reference, and chunked, the fast one that equals it."""
