"""Old versions of SGLang are refused by name; what differs between the supported ones is read from both."""

from __future__ import annotations

import importlib.util
import logging

import pytest

from rrti_sgl.errors import EndpointError, UsageError
from rrti_sgl.serving import versions
from rrti_sgl.serving.versions import check_installed, check_version, parse_version, served_name


@pytest.mark.parametrize("version", ["0.5.16", "0.5.16.post3", "0.4.99", "0.5.2"])
def test_too_old(version: str) -> None:
    with pytest.raises(EndpointError, match=f"SGLang {version} is not supported; 0.5.17 is the oldest") as caught:
        check_version(version, "http://host:1")
    assert "http://host:1" in caught.value.message


@pytest.mark.parametrize(
    ("version", "warned"),
    [
        ("0.5.17", False),
        ("0.5.17.post1", False),
        ("0.5.23", False),
        ("0.5.24", True),
        ("1.0.0rc1", True),
        ("0.0.0.dev1+gabc", True),
        ("main", True),
    ],
)
def test_supported(version: str, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_version(version, "here")
    assert bool(caplog.records) is warned


def test_releases() -> None:
    assert parse_version("0.5.17.post1") == (0, 5, 17)
    assert parse_version("unknown") is None


def test_the_installed_one_is_supported() -> None:
    assert parse_version(check_installed()) is not None


@pytest.mark.parametrize(("missing", "name"), [("sglang", "SGLang"), ("torch", "PyTorch")])
def test_none_installed(monkeypatch: pytest.MonkeyPatch, missing: str, name: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None if module == missing else object())
    with pytest.raises(UsageError, match=f"{name} is not installed") as raised:
        check_installed()
    assert "make demo" in raised.value.remedy


def test_the_served_name_in_both() -> None:
    newer = {"model_path": "/m", "served_model_name": "bundled/base"}
    older = {"model_path": "/m"}
    assert served_name(newer, {}) == served_name(older, {"served_model_name": "bundled/base"}) == "bundled/base"
    assert served_name(older, {}) == "/m"


def test_every_difference_names_both_versions() -> None:
    assert versions.__doc__ is not None
    for name in ("0.5.17", "0.5.23", "served_model_name", "is_request_level_customized_info_key", "flat"):
        assert name in versions.__doc__
