"""Restore a base model's reasoning by correcting a few decision tokens, on SGLang servers."""

__version__ = "0.1.0"
