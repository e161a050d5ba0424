"""The revisions, oldest first; each file name starts with its number."""
