"""What an API server's answer, or its silence, means for whoever asked.

    401, 403, 404 (namespace, kind), 422, other 4xx → Permanent, with what to do
    409                                             → Conflict: read again, try again
    408, 429, 503                                   → Temporary, after Retry-After
    500, 502, 504 and other 5xx                     → Temporary for a read; for a write Unsure
    no connection                                   → Temporary: nothing was sent
    time out or cut after sending                   → Temporary for a read; OutcomeUnknown
                                                      for a write

`Conflict`, `Silent` and `Unsure` are handled inside the adapter. They are kinds of `Temporary` and
`OutcomeUnknown`, so that nothing else can cross the port even where they are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from domain.errors import AdapterError, OutcomeUnknown, Permanent, Temporary

Json = dict[str, Any]
MOST_MESSAGE = 400
"""Characters of a server's message that are passed on."""


class Conflict(Temporary):
    """The object changed since it was read, or came to be in the meantime."""


class Silent(Temporary):
    """A read got no answer in time: asking again at once would only make the caller wait."""


class Unsure(OutcomeUnknown):
    """The server failed over a write; reading the object tells whether it came through."""

    def __init__(self, message: str, retry_after: float | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Request:
    """One request, in the words that messages and remedies use."""

    verb: str
    """RBAC verb: get, list, create, patch, delete."""
    resource: str
    """`deployments.apps`, as kubectl and RBAC name it."""
    namespace: str
    name: str

    @property
    def is_write(self) -> bool:
        """Whether it changes something."""
        return self.verb in ("create", "patch", "delete")

    def __str__(self) -> str:
        where = f" in namespace {self.namespace}"
        return f"{self.verb} {self.resource}{f' {self.name}' if self.name else ''}{where}"


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: status, headers (any case), and the JSON object in it, if it is one."""

    status: int
    headers: Mapping[str, str]
    body: Json

    @property
    def message(self) -> str:
        """The server's own words, on one line and cut to a sensible length."""
        text = " ".join(str(self.body.get("message") or "").split())
        return text if len(text) <= MOST_MESSAGE else text[:MOST_MESSAGE] + "…"

    @property
    def reason(self) -> str:
        """The machine-readable reason of a `Status` (`NotFound`, `Invalid`, ...), or ''."""
        return str(self.body.get("reason") or "")

    @property
    def concerns(self) -> tuple[str, str]:
        """(plural kind, name) that a `Status` is about; empty strings when it does not say."""
        details = self.body.get("details")
        details = details if isinstance(details, dict) else {}
        return str(details.get("kind") or ""), str(details.get("name") or "")


def is_missing_object(answer: Answer, request: Request) -> bool:
    """Whether a 404 says that the object is not there (and not its kind, or its namespace)."""
    kind, _ = answer.concerns
    return answer.status == 404 and kind == request.resource.partition(".")[0]


def error_of(answer: Answer, request: Request) -> AdapterError:
    """The error that stands for an answer that is not 2xx."""
    what = f"the cluster refused to {request} ({answer.status}): {answer.message}".rstrip(": ")
    match answer.status:
        case 401:
            return Permanent(
                f"the cluster does not know our credentials ({request})",
                "renew the token or client certificate in the kubeconfig (KUBECONFIG), or the "
                "service account of the pod",
            )
        case 403:
            return Permanent(what, _for_forbidden(answer, request))
        case 404:
            return Permanent(what, _for_missing(answer, request))
        case 409:
            return Conflict(f"{request}: {answer.message or 'it changed in the meantime'}")
        case 410:
            # The pages of a list do not wait for ever; read anew it is a new list.
            return Temporary(_failed(answer, request))
        case 422:
            return Permanent(
                what, "the API server found the object invalid: correct the named fields"
            )
        case 408 | 429 | 503:
            return Temporary(_failed(answer, request), retry_after(answer.headers))
        case status if status >= 500:
            if request.is_write:
                return Unsure(_failed(answer, request), retry_after(answer.headers))
            return Temporary(_failed(answer, request), retry_after(answer.headers))
        case _:
            return Permanent(what, "the request does not suit this cluster; see its message")


def error_of_silence(error: Exception, request: Request, timeout: float) -> AdapterError:
    """The error for a request that got no whole answer. `timeout` in seconds, for the message."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Permanent(
            f"the cluster's certificate cannot be verified ({request})",
            "put the cluster's CA into the kubeconfig (certificate-authority-data)",
        )
    if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
        return Temporary(f"the cluster cannot be reached ({request}): {_why(error)}")
    if isinstance(error, TimeoutError):
        what = f"no answer within {timeout:g} s ({request})"
        return OutcomeUnknown(what) if request.is_write else Silent(what)
    what = f"the connection was lost ({request}): {_why(error)}"
    return OutcomeUnknown(what) if request.is_write else Temporary(what)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a Retry-After header asks for (a number or an HTTP date); None without one."""
    given = headers.get("Retry-After", "").strip()
    if not given:
        return None
    if given.isdigit():
        return float(given)
    try:
        due = parsedate_to_datetime(given)
    except ValueError:
        return None
    if due.tzinfo is None:
        due = due.replace(tzinfo=UTC)
    return max(0.0, (due - datetime.now(UTC)).total_seconds())


def _failed(answer: Answer, request: Request) -> str:
    return f"the cluster failed to {request} ({answer.status}): {answer.message}".rstrip(": ")


def _for_forbidden(answer: Answer, request: Request) -> str:
    if "being terminated" in answer.message:
        return f"namespace {request.namespace} is being deleted: wait, then create it anew"
    return (
        f"grant Fermata's account `{request.verb}` on {request.resource} "
        f"(docs/kubernetes.md lists the whole role); check with "
        f"`kubectl auth can-i {request.verb} {request.resource} -n {request.namespace}`"
    )


def _for_missing(answer: Answer, request: Request) -> str:
    if answer.concerns[0] == "namespaces":
        return f"create it: `kubectl create namespace {request.namespace}`"
    if request.resource.endswith("gateway.networking.k8s.io"):
        return "install the Gateway API's CRDs, or drop `route` from the workload in services.yaml"
    if "argoproj.io" in request.resource:
        return "install Argo Rollouts in the cluster, or choose another executor in services.yaml"
    return "check that KUBECONFIG points at the right cluster"


def _why(error: Exception) -> str:
    # The OS error is the useful part; aiohttp's own text repeats host and SSL settings.
    inner = getattr(error, "os_error", None)
    return str(inner or error) or type(error).__name__
