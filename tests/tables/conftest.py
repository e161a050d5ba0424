"""The tiny store of the report's tests."""

from tests.reporting.conftest import tiny, tiny_path

__all__ = ["tiny", "tiny_path"]
