"""A store file without rows for the tests to copy."""

from tests.db.conftest import empty_store

__all__ = ["empty_store"]
