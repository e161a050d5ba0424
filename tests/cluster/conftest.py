"""The settings of the toy runs of tests/session."""

from tests.session.test_runs import settings as settings
