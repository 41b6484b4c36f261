"""A Kubernetes API client just big enough for tests: JSON in, JSON out, errors with their code."""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Object = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
YAML = "application/yaml"


class ApiError(Exception):
    """The API server refused a request: `status` is the HTTP code, `reason` its own word for it
    (`Conflict`, `NotFound`, `Invalid`, ...)."""

    def __init__(self, method: str, path: str, status: int, body: Object) -> None:
        self.status = status
        self.reason = str(body.get("reason", ""))
        super().__init__(f"{method} {path}: {status} {body.get('message', body)}")


class Api:
    """Requests to one API server as one user. Raises OSError when the server is not reachable."""

    def __init__(self, url: str, ca: Path, token: str, timeout: float = 30.0) -> None:
        self._host = urlsplit(url).netloc
        self._url = url
        self._ca = ca
        self._token = token
        self._timeout = timeout
        self._tls = ssl.create_default_context(cafile=str(ca))

    def as_user(self, token: str) -> Api:
        """The same server, seen with another token."""
        return Api(self._url, self._ca, token, self._timeout)

    def get(self, path: str) -> Object:
        return self.request("GET", path)

    def post(self, path: str, body: Object) -> Object:
        return self.request("POST", path, body)

    def put(self, path: str, body: Object) -> Object:
        return self.request("PUT", path, body)

    def merge(self, path: str, body: Object) -> Object:
        """Merge patch: lists are replaced whole, `None` deletes a field."""
        return self.request("PATCH", path, body, content_type=MERGE_PATCH)

    def delete(self, path: str) -> Object:
        return self.request("DELETE", path)

    def request(
        self,
        method: str,
        path: str,
        body: Object | bytes | None = None,
        *,
        content_type: str = "application/json",
    ) -> Object:
        """Send one request and return the JSON answer; an answer that is not JSON comes back as
        `{"message": text}`. Raises ApiError for every status from 300 on."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        if data is not None:
            headers["Content-Type"] = content_type
        connection = http.client.HTTPSConnection(
            self._host, timeout=self._timeout, context=self._tls
        )
        try:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            text = response.read().decode()
        except http.client.HTTPException as error:
            raise ConnectionError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()
        try:
            answer = json.loads(text)
        except ValueError:
            answer = {"message": text}
        if not isinstance(answer, dict):
            answer = {"message": text}
        if response.status >= 300:
            raise ApiError(method, path, response.status, answer)
        return answer
