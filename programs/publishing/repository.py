"""A dataset repository of the Hugging Face hub: the one place that speaks to it, and where its errors become ours.

The hub, the token and the cache are those of every tool that uses `huggingface_hub`: HF_ENDPOINT, HF_TOKEN or `hf auth
login`, HF_HOME, HF_HUB_OFFLINE.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rrti_sgl.errors import EndpointError, RRTIError, UsageError, argument

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MAIN = "main"
_KIND = "dataset"


@dataclass(frozen=True)
class Held:
    """A file of a repository by the digest that the hub keeps of it: SHA-256 of large files, git's SHA-1 of small ones."""

    digest: str
    is_large: bool

    def is_same(self, content: Path | bytes) -> bool:
        """Whether the file has this content; a path's file is read."""
        if self.is_large:
            if isinstance(content, bytes):
                return hashlib.sha256(content).hexdigest() == self.digest
            with content.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.digest
        data = content if isinstance(content, bytes) else content.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == self.digest


@dataclass(frozen=True)
class State:
    """What a repository holds at a commit: the commit, whether only members see it, path -> file."""

    commit: str
    private: bool
    files: Mapping[str, Held]


@dataclass(frozen=True)
class Repository:
    """A dataset repository at a revision.

    Args:
        name: OWNER/NAME.
        revision: a branch; to read, a tag or a commit as well.

    Raises:
        UsageError: the name is none.
    """

    name: str
    revision: str = MAIN

    def __post_init__(self) -> None:
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils._validators import validate_repo_id

        remedy = "Write OWNER/NAME, both of letters, digits, -, _ and . alone."
        try:
            validate_repo_id(self.name)
        except HFValidationError as error:
            raise UsageError(f"{self.name!r} is no name of a repository.", remedy) from error
        if "/" not in self.name:
            raise UsageError(f"The repository {self.name!r} has no owner.", remedy)
        if not self.revision.strip():
            raise UsageError(f"{argument('revision', self.revision)} is no revision.", "Name a branch, a tag or a commit.")

    @cached_property
    def _api(self) -> HfApi:
        from huggingface_hub import HfApi

        return HfApi(library_name="rrti-sgl")

    def state(self) -> State:
        """What it holds at the revision.

        Raises:
            UsageError: there is no such repository or revision, or the token does not let one see it.
            EndpointError: the hub cannot be reached, or refuses.
        """
        from huggingface_hub.hf_api import RepoFile

        with self._told():
            info = self._api.dataset_info(self.name, revision=self.revision)
            tree = self._api.list_repo_tree(self.name, repo_type=_KIND, revision=info.sha, recursive=True)
            files = {
                entry.path: Held(entry.lfs.sha256, True) if entry.lfs else Held(entry.blob_id, False)
                for entry in tree
                if isinstance(entry, RepoFile)
            }
        return State(str(info.sha), bool(info.private), files)

    def open_for_writing(self, *, private: bool) -> State:
        """What it holds, after the repository and the branch were made where they are missing.

        Args:
            private: it is to be seen by its owner's members alone.

        Raises:
            UsageError: there is no token; it may not write; the repository is there and public, and `private` is asked for.
            EndpointError: as `state`.
        """
        from huggingface_hub import errors, get_token

        if get_token() is None:
            remedy = "Set HF_TOKEN to one that may write, or log in with `hf auth login`."
            raise UsageError(f"There is no token to write to {self.name} with.", remedy)
        with self._told():
            try:
                is_public = not self._api.dataset_info(self.name).private
            except errors.RepositoryNotFoundError:
                self._api.create_repo(self.name, repo_type=_KIND, private=private or None)
                is_public = False
        if private and is_public:
            message = f"{argument('private', True)}, and the repository {self.name} is there and public."
            raise UsageError(message, "Make it private in its settings, name another, or leave the option out.")
        if self.revision != MAIN:
            with self._told():
                self._api.create_branch(self.name, repo_type=_KIND, branch=self.revision, exist_ok=True)
        return self.state()

    def commit(self, files: Mapping[str, Path | bytes], message: str, parent: str) -> str:
        """Put files in place, all of them or none; returns the commit.

        What a try that was cut off had uploaded is not uploaded again.

        Args:
            files: path in the repository -> a file, or its bytes.
            message: of the commit.
            parent: the commit that they are a change of.

        Raises:
            UsageError: the token may not write.
            EndpointError: the hub cannot be reached or refuses, or somebody else changed the repository meanwhile.
        """
        from huggingface_hub import CommitOperationAdd

        added = [CommitOperationAdd(path, content) for path, content in sorted(files.items())]
        with self._told(), _bars():
            made = self._api.create_commit(
                self.name, added, repo_type=_KIND, revision=self.revision, commit_message=message, parent_commit=parent
            )
        return made.oid

    def download(self, patterns: list[str]) -> Path:
        """The files that match a pattern, in the hub's cache on this machine; returns the folder of the commit.

        What is in the cache is not fetched again, and is enough where the hub cannot be reached.

        Raises:
            UsageError, EndpointError: as `state`.
        """
        with self._told(), _bars():
            return Path(
                self._api.snapshot_download(self.name, repo_type=_KIND, revision=self.revision, allow_patterns=patterns)
            )

    def read(self, path: str, commit: str) -> bytes:
        """The bytes of a small file of a commit.

        Raises:
            UsageError, EndpointError: as `state`.
        """
        with self._told(), _bars():
            return Path(self._api.hf_hub_download(self.name, path, repo_type=_KIND, revision=commit)).read_bytes()

    def licence_of_model(self, model: str) -> str | None:
        """What the hub says of a model's licence; None where it knows no such model, or none of it."""
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        try:
            card = self._api.model_info(model).card_data
        except (HfHubHTTPError, HFValidationError):
            return None
        stated = card.get("license") if card is not None else None
        return str(stated) if stated else None

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of the hub in the block are raised as ours."""
        import httpx

        try:
            yield
        except (httpx.HTTPError, OSError, RuntimeError, ValueError) as error:
            raise self._ours(error) from error

    def _ours(self, error: Exception) -> RRTIError:
        import httpx
        from huggingface_hub import constants, errors

        cause: BaseException = error
        while isinstance(cause, RuntimeError) and cause.__cause__ is not None:  # of one file of several
            cause = cause.__cause__
        offline = "HF_HUB_OFFLINE forbids to ask it" if constants.is_offline_mode() else ""
        match cause:
            case errors.GatedRepoError():
                return UsageError(f"The repository {self.name} asks for consent first.", "Give it on the hub's page of it.")
            case errors.RevisionNotFoundError():
                message = f"The repository {self.name} has no revision {self.revision!r}."
                return UsageError(message, "Name a branch, a tag or a commit of it.")
            case errors.RepositoryNotFoundError():
                message = f"There is no dataset repository {self.name} at {self._api.endpoint} that you may see."
                return UsageError(message, "Check the name; a private one needs HF_TOKEN, or `hf auth login`.")
            case errors.HfHubHTTPError(response=response) if response.status_code in (401, 403):
                message = f"The hub refuses {self.name} with your token: {_said(cause)}."
                return UsageError(message, "Use a token that may do it: HF_TOKEN, or `hf auth login`.")
            case errors.HfHubHTTPError(response=response) if response.status_code in (409, 412):
                message = f"The repository {self.name} was changed by somebody else meanwhile."
                return EndpointError(message, "Push again: what was uploaded is not uploaded twice.")
            case errors.HfHubHTTPError():
                message = f"The hub at {self._api.endpoint} refuses {self.name}: {_said(cause)}."
                return EndpointError(message, "Try again later: what was transferred is not transferred twice.")
            case httpx.HTTPError() | errors.OfflineModeIsEnabled() | errors.LocalEntryNotFoundError():
                said = offline or _said(cause)
                message = f"The hub at {self._api.endpoint} cannot be reached for {self.name}: {said}."
                return EndpointError(message, "Check the network, HF_ENDPOINT and HF_HUB_OFFLINE, and try again.")
            case ValueError() if "metadata in README.md" in str(cause):
                reasons = " ".join(line.strip("- ") for line in str(cause).splitlines()[1:])
                return UsageError(f"The hub refuses the card of {self.name}: {reasons}", f"Check {argument('licence')}.")
        message = f"The transfer with {self.name} failed: {type(cause).__name__}: {_said(cause)}."
        return EndpointError(message, "Try again: what was transferred is not transferred twice.")


def _said(error: BaseException) -> str:
    """What an error says, on one line, without a full stop."""
    told = getattr(error, "server_message", None) or str(error)
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


@contextmanager
def _bars() -> Iterator[None]:
    """The hub's progress bars where somebody sees them, and nowhere else."""
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if sys.stderr.isatty():
        yield
        return
    with disable_progress_bars():
        yield
