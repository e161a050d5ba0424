"""The demonstration: the whole method on the bundled pair, and the report of it."""
