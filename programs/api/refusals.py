"""What a request is refused with: OpenAI's error body, without anything of this machine."""

from __future__ import annotations

import logging
from typing import Any

from rrti_sgl.errors import EndpointError, RRTIError, Spelling, StoreError, UsageError
from rrti_sgl.programs.api.request_ids import request_id

logger = logging.getLogger(__name__)

# Arguments of ours -> fields of a request.
_FIELDS = {
    **{name: name for name in ("temperature", "top_p", "seed")},
    **{"tau": "rrti.tau", "lambda_": "rrti.lambda", "use_lambda": "rrti.lambda"},
    "thinking": "chat_template_kwargs.enable_thinking",
}


class Fields(Spelling):
    """Messages name fields of a request; what is none is an option of whoever serves the endpoint.

    Args:
        limit: the field that says how long an answer may be.
    """

    def __init__(self, limit: str) -> None:
        self._fields = _FIELDS | {"max_new_tokens": limit}

    def argument(self, name: str, value: Any, text: str) -> str:
        """A field, with its value."""
        named = self._fields.get(name) or f"--{name.replace('_', '-')} of `rrti api`"
        return f"{named} {text if value is ... else value}".rstrip()

    def command(self, name: str, options: dict[str, Any]) -> str:
        """Commands are the operator's."""
        return f"rrti {name}"


class RefusedError(Exception):
    """A request that is not answered.

    Args:
        message: what is wrong and what to do, as the client is told.
        status: of the HTTP answer.
        kind: OpenAI's `type`.
        param: the field that it is about.
        code: OpenAI's `code`, where it has one, or ours.
        retry_after_s: when to try again.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.kind, self.param, self.code = message, status, kind, param, code
        self.retry_after_s = retry_after_s

    @property
    def body(self) -> dict[str, Any]:
        """OpenAI's error body."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Of the answer."""
        found = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return found | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


def of_field(name: str, wrong: str) -> RefusedError:
    """The refusal of a field whose value does not fit."""
    return RefusedError(f"{name}: {wrong}", param=name, code="invalid_value")


def no_model(message: str) -> RefusedError:
    """The refusal of a name that is no model's."""
    return RefusedError(message, status=404, param="model", code="model_not_found")


def refused(error: Exception) -> RefusedError:
    """What a client is told of an error; what it is not told is logged."""
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, UsageError):
        return RefusedError(str(error), code="invalid_value")
    if isinstance(error, EndpointError):
        logger.error("request %s: a model server failed: %s", request_id(), error)
        message = "A model server failed or refused the request; the endpoint's log says how."
        return RefusedError(message, status=502, kind="server_error", code="model_server_failed")
    if isinstance(error, StoreError):
        logger.error("request %s: the store failed: %s", request_id(), error)
        message = 'The trace cannot be stored. With "rrti": {"trace": false} the request needs no store.'
        return RefusedError(message, status=503, kind="server_error", code="store_failed")
    if isinstance(error, RRTIError):
        logger.error("request %s failed: %s", request_id(), error)
    else:
        logger.error("request %s failed", request_id(), exc_info=error)
    return RefusedError("The endpoint failed; its log says how.", status=500, kind="server_error", code="internal_error")
