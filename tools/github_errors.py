"""What GitHub's answers mean to us: rate limits, refusals, and the loss of an answer.

| answer | error |
|---|---|
| 429; 403 with `retry-after`, no requests left, or a secondary limit's message | Temporary |
| 5xx, 408, 409, 425; no connection; an answer to a read that never came | Temporary |
| connection lost or timed out after a write was sent | OutcomeUnknown |
| 401, 403, 404, 410, 422 and other refusals | Permanent, with what would help |

A 5xx on a write may still have been carried out. That is Temporary here because every write of the
forge begins by listing what is there, so trying again cannot do it twice.
"""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import httpx
from githubkit.exception import AuthCredentialError, GitHubException, RequestError, RequestFailed

from domain.errors import AdapterError, OutcomeUnknown, Permanent, Temporary

SECONDARY_LIMIT_SECONDS = 60.0
"""GitHub's advice when a limit is hit and no header says how long to wait."""

LONGEST_WAIT_SECONDS = 3600.0
"""A primary limit resets within the hour; a longer wait is a wrong clock."""
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
BAD_URL = (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.LocalProtocolError)
REMEDIES = {
    401: "set a valid GITHUB_TOKEN (it may have expired), or check the App's id and private key",
    403: "give the token or App write access to pull requests and issues, and read access to "
    "contents and metadata, on this repository; a locked conversation has to be unlocked",
    404: "check the name in services.yaml, and that the token or App can see the repository",
    410: "issues or the conversation are switched off there; switch them on in the repository",
    422: "see the message: GitHub understood the request and refuses its content",
}


class Refused(Permanent):
    """GitHub said no, with this HTTP status."""

    def __init__(self, status: int, message: str, remedy: str) -> None:
        super().__init__(message, remedy)
        self.status = status


class Conflicted(Temporary):
    """What was to be changed has changed in the meantime (409): look again."""


class RateLimited(Temporary):
    """GitHub wants us to keep quiet for `retry_after` seconds, whatever we want to ask."""


def translated(error: GitHubException, what: str, *, mutating: bool) -> AdapterError:
    """Our error for one of githubkit's. `what` names the request without any secret."""
    if isinstance(error, RequestFailed):
        return of_response(error.response.raw_response, what)
    if not isinstance(error, RequestError):
        return (
            _credentials(what)
            if isinstance(error, AuthCredentialError)
            else Permanent(f"{what}: {type(error).__name__}", "see the log of this moment")
        )
    cause = error.exc
    if isinstance(cause, GitHubException):
        # It happened while signing in, before the request itself was sent.
        return translated(cause, f"signing in for {what}", mutating=False)
    if isinstance(cause, BAD_URL):
        return Permanent(f"{what}: the address is not usable", "check GITHUB_API_URL")
    if isinstance(cause, httpx.HTTPError):
        return _lost(cause, what, mutating=mutating)
    if mutating:
        return OutcomeUnknown(f"{what}: broke off ({type(cause).__name__})")
    return Temporary(f"{what}: broke off ({type(cause).__name__})")


def _credentials(what: str) -> Permanent:
    return Permanent(
        f"{what}: the GitHub App's credentials cannot be used",
        "GITHUB_APP_PRIVATE_KEY has to be the whole PEM file of the App named by GITHUB_APP_ID",
    )


def _lost(cause: httpx.HTTPError, what: str, *, mutating: bool) -> AdapterError:
    """The request could not be sent, or its answer never came."""
    how = type(cause).__name__
    if isinstance(cause, NEVER_SENT):
        return Temporary(f"{what}: GitHub cannot be reached ({how})")
    if mutating and not _was_sign_in(cause):
        return OutcomeUnknown(f"{what}: sent, but no answer came ({how})")
    return Temporary(f"{what}: no answer ({how})")


def _was_sign_in(cause: httpx.HTTPError) -> bool:
    """Whether it was the App's request for a token that got lost."""
    try:
        return cause.request.url.path.endswith("/access_tokens")
    except RuntimeError:  # httpx raises it where no request is attached
        return False


def of_response(response: httpx.Response, what: str) -> AdapterError:
    """Our error for an answer that is not a success."""
    status = response.status_code
    told = said(response)
    if status == 429 or (status == 403 and is_rate_limit(response, told)):
        words = f"{what}: GitHub's rate limit is reached ({status})"
        return RateLimited(words, wait_seconds(response))
    if status == 409:
        return Conflicted(f"{what}: GitHub answered 409{_quoted(told)}", _retry_after(response))
    if status >= 500 or status in (408, 425):
        wait = _retry_after(response)
        return Temporary(f"{what}: GitHub answered {status}{_quoted(told)}", wait)
    remedy = REMEDIES.get(status, "check that GITHUB_API_URL is GitHub's REST API")
    return Refused(status, f"{what}: GitHub answered {status}{_quoted(told)}", remedy)


def said(response: httpx.Response) -> str:
    """GitHub's own message with its field errors, on one line, bounded; '' where there is none."""
    try:
        body = response.json()
    except ValueError:
        return ""
    if not isinstance(body, dict) or not isinstance(body.get("message"), str):
        return ""
    errors = body.get("errors")
    details = [
        str(one.get("message") or f"{one.get('field')} {one.get('code')}")
        for one in (errors if isinstance(errors, list) else [])
        if isinstance(one, dict)
    ]
    return " ".join(": ".join([body["message"], *details]).split())[:200]


def _quoted(told: str) -> str:
    return f": {told}" if told else ""


def is_rate_limit(response: httpx.Response, told: str) -> bool:
    """Whether a 403 is a limit and not a refusal: GitHub uses the same status for both."""
    if "retry-after" in response.headers or response.headers.get("x-ratelimit-remaining") == "0":
        return True
    return "secondary rate limit" in told.lower() or "abuse detection" in told.lower()


def wait_seconds(response: httpx.Response) -> float:
    """Seconds to keep quiet: `retry-after`, else until `x-ratelimit-reset`, else a minute."""
    wait: float | None = _retry_after(response)
    if wait is None and response.headers.get("x-ratelimit-remaining") == "0":
        reset = response.headers.get("x-ratelimit-reset", "")
        # One second more: the header is in whole seconds, and clocks differ.
        wait = float(reset) - time.time() + 1 if reset.isdigit() else None
    if wait is None:
        wait = SECONDARY_LIMIT_SECONDS
    return min(max(wait, 1.0), LONGEST_WAIT_SECONDS)


def _retry_after(response: httpx.Response) -> float | None:
    """The header in seconds; RFC 9110 allows a number or a date."""
    told = response.headers.get("retry-after", "").strip()
    if told.isdigit():
        return min(float(told), LONGEST_WAIT_SECONDS)
    try:
        at = parsedate_to_datetime(told).timestamp()
    except (ValueError, TypeError):
        return None
    return min(max(at - time.time(), 0.0), LONGEST_WAIT_SECONDS)
