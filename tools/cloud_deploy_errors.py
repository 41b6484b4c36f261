"""What Cloud Deploy's answers, or its silence, mean for whoever asked.

400, 401, 403, 404, 412, other 4xx → Permanent, with what to do
409                                → Temporary: what is there is looked at before trying again
429, 503                           → Temporary, after Retry-After
500, 502, 504 and other 5xx        → Temporary for a read; OutcomeUnknown for a write
no connection, no access token     → Temporary: nothing was sent
time out or cut after sending      → Temporary for a read; OutcomeUnknown for a write
"""

from __future__ import annotations

import warnings
from email.utils import parsedate_to_datetime
from time import time

import requests
from urllib3.exceptions import MaxRetryError, NewConnectionError

from domain.errors import AdapterError, OutcomeUnknown, Permanent, Temporary

with warnings.catch_warnings():
    # It speaks of a gRPC that is not used here.
    warnings.simplefilter("ignore", FutureWarning)
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError, TransportError

MOST_MESSAGE = 400
LONGEST_WAIT_SECONDS = 3600.0
RENEW = (
    "give Fermata credentials that are valid: GOOGLE_APPLICATION_CREDENTIALS, or the service "
    "account of the machine or pod (docs/executors.md)"
)
REMEDIES = {
    401: RENEW,
    403: "grant Fermata's service account roles/clouddeploy.releaser (and approver, where "
    "`approve: true`) on the pipeline and its targets, and let it act as the execution service "
    "account; a deploy policy of the target may forbid it as well (docs/executors.md)",
    404: "check project, location, pipeline and targets under `cloud_deploy:` in services.yaml",
}


class Missing(Permanent):
    """There is no such resource, or it cannot be seen."""


class Exists(Temporary):
    """A resource of this name is there already, or what it should be changed from is no more."""


class Silent(Temporary):
    """A read got no answer in time: asking again at once would only make the caller wait."""


class Untimely(Permanent):
    """The resource is not in a state in which this can be done to it (FAILED_PRECONDITION)."""


def translated(error: Exception, what: str, *, mutating: bool) -> AdapterError:
    """Our error for one of the client library's. `what` names the request without any secret."""
    if isinstance(error, GoogleAPICallError):
        return _of_answer(error, what, mutating=mutating)
    if isinstance(error, TransportError):
        return Temporary(f"{what}: no access token could be had, nothing was sent")
    if isinstance(error, GoogleAuthError):
        return Permanent(f"{what}: the credentials cannot be used ({type(error).__name__})", RENEW)
    if _never_sent(error):
        return Temporary(f"{what}: Cloud Deploy cannot be reached")
    how = type(error).__name__
    if mutating:
        return OutcomeUnknown(f"{what}: sent, but no answer came ({how})")
    if isinstance(error, requests.Timeout):
        return Silent(f"{what}: no answer ({how})")
    return Temporary(f"{what}: no answer ({how})")


def _of_answer(error: GoogleAPICallError, what: str, *, mutating: bool) -> AdapterError:
    status = int(error.code or 0)
    message = " ".join(str(error.message or "").split())[:MOST_MESSAGE]
    told = f"{what}: Cloud Deploy answered {status}" + (f": {message}" if message else "")
    match status:
        case 404:
            return Missing(told, REMEDIES[404])
        case 400 if "FAILED_PRECONDITION" in _words(error):
            return Untimely(told, "see the message: something has to come first")
        case 409:
            return Exists(told)
        case 408 | 429 | 503:
            return Temporary(told, _retry_after(error))
        case _ if status >= 500:
            return OutcomeUnknown(told) if mutating else Temporary(told, _retry_after(error))
        case _:
            remedy = REMEDIES.get(status, "see the message: Cloud Deploy refuses its content")
            return Permanent(told, remedy)


def _words(error: GoogleAPICallError) -> str:
    """The status in Google's words, as the answer's text has it."""
    return str(getattr(error.response, "text", ""))


def _never_sent(error: Exception) -> bool:
    if isinstance(error, (requests.ConnectTimeout, requests.exceptions.ProxyError)):
        return True
    if not isinstance(error, requests.ConnectionError) or not error.args:
        return False
    cause = error.args[0]
    return isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError)


def _retry_after(error: GoogleAPICallError) -> float | None:
    """The header in seconds; RFC 9110 allows a number or a date."""
    headers = getattr(error.response, "headers", None) or {}
    given = str(headers.get("Retry-After", "")).strip()
    if given.isdigit():
        return min(float(given), LONGEST_WAIT_SECONDS)
    try:
        at = parsedate_to_datetime(given).timestamp()
    except (ValueError, TypeError):
        return None
    return min(max(at - time(), 0.0), LONGEST_WAIT_SECONDS)
