"""Documents that say themselves what is secret in them."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.redaction.engine import COVER
from policy.redaction.stream import Stream
from policy.redaction.walk import MOST_HELD
from tests.policy.redaction.making import redactor

SECRETS = ("swordfish", "blue-Horse-77", "4711 is the number", "Zw\\eb\u00e4ck")
OPEN = ("shop", "eu-west-1", "Opaque", "db.example.com")


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def secret(**data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "data": {key: b64(value) for key, value in data.items()},
        "kind": "Secret",
        "metadata": {"name": "shop", "labels": {"region": "eu-west-1"}},
        "type": "Opaque",
    }


def manifest(**data: str) -> dict[str, Any]:
    return {
        "kind": "Secret",
        "apiVersion": "v1",
        "metadata": {"name": "shop", "labels": {"region": "eu-west-1"}},
        "type": "Opaque",
        "stringData": data,
    }


VALUES = {"first": SECRETS[0], "second": SECRETS[1], "third": SECRETS[2], "fourth": SECRETS[3]}


def applied() -> dict[str, Any]:
    """As `kubectl apply` leaves it: all of it once more, in an annotation."""
    one = secret(**VALUES)
    name = "kubectl.kubernetes.io/last-applied-configuration"
    one["metadata"]["annotations"] = {name: json.dumps(one, separators=(",", ":")) + "\n"}
    return one


def state() -> dict[str, Any]:
    path = [
        [
            {"type": "get_attr", "value": "rules"},
            {"type": "index", "value": {"value": 1, "type": "number"}},
        ]
    ]
    return {
        "version": 4,
        "terraform_version": "1.9.5",
        "outputs": {
            "region": {"value": "eu-west-1", "type": "string"},
            "one": {"value": SECRETS[0], "type": "string", "sensitive": True},
            "many": {"value": {"a": [SECRETS[1]]}, "type": ["map", "string"], "sensitive": True},
        },
        "resources": [
            {
                "mode": "managed",
                "type": "random_password",
                "name": "db",
                "instances": [
                    {"attributes": {"id": "shop", "result": SECRETS[2]}, "sensitive_attributes": []}
                ],
            },
            {
                "mode": "managed",
                "type": "thing",
                "name": "db",
                "instances": [
                    {
                        "attributes": {"host": "db.example.com", "rules": ["Opaque", SECRETS[3]]},
                        "sensitive_attributes": path,
                    }
                ],
            },
        ],
    }  # fmt: skip


def shown() -> dict[str, Any]:
    """As `terraform show -json` prints a state."""
    return {
        "format_version": "1.0",
        "terraform_version": "1.9.5",
        "values": {
            "root_module": {
                "resources": [
                    {
                        "address": "thing.db",
                        "type": "thing",
                        "values": {"a": list(SECRETS), "b": "eu-west-1", "c": "Opaque"},
                        "sensitive_values": {"a": [True] * len(SECRETS), "b": False},
                    }
                ]
            },
            "outputs": {"region": {"sensitive": False, "value": "shop"}},
        },
        "variables": {"db_password": {"value": SECRETS[0]}, "region": {"value": "shop"}},
        "host": "db.example.com",
    }


def listed(*items: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "items": list(items), "kind": "List"}


def dumped(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000)


TEXTS = {
    "state": json.dumps(state(), indent=2),
    "state, one line": json.dumps(state()),
    "state, tight": json.dumps(state(), separators=(",", ":"), ensure_ascii=False),
    "state as shown": json.dumps(shown()),
    "secret as yaml": dumped(secret(**VALUES)),
    "secret as json": json.dumps(secret(**VALUES), indent=4),
    "secret on one line": json.dumps(secret(**VALUES)),
    "secrets as yaml": dumped(listed(secret(**VALUES), secret(**VALUES))),
    "secrets as json": json.dumps(listed(secret(**VALUES), secret(**VALUES)), indent=4),
    "manifest": dumped(manifest(**VALUES)),
    "manifest in json": json.dumps(manifest(**VALUES), indent=2),
    "applied": json.dumps(applied(), indent=4),
    "applied, in yaml": dumped(secret(**VALUES)).replace(
        "  labels:\n",
        f"  annotations:\n    last: |\n      {json.dumps(secret(**VALUES))}\n  labels:\n",
    ),
    "after other words": f"12:00 INFO got {json.dumps(secret(**VALUES))} and is glad\n",
    "quoted and folded": "kind: Secret # it is\nstringData: # in clear\n"
    "  first: 'swordfish' # one\n  second: |\n"
    '    blue-Horse-77\n    4711 is the number\n  third: "Zw\\\\eb\u00e4ck"\ntype: Opaque\n',
}


def streamed(data: bytes, size: int) -> bytes:
    stream = Stream(redactor())
    parts = [stream.feed(data[at : at + size]) for at in range(0, len(data), size)]
    return b"".join((*parts, stream.close()))


def leaked(out: str) -> list[str]:
    plain = out.replace("\\\\", "\\").replace("\\u00e4", "\u00e4")
    return [one for one in SECRETS if one in plain or b64(one)[:8] in plain]


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("around", ["{}", "all is well\n{}\nand so on\n"])
def test_what_a_document_calls_secret_is_covered_and_the_rest_is_not(
    name: str, around: str
) -> None:
    text = around.format(TEXTS[name])
    out = redactor().redact(text)
    assert leaked(out) == []
    assert all(out.count(one) >= 1 for one in OPEN if one in text)
    assert redactor().redact(out) == out
    for size in (1, 13, 500):
        assert streamed(text.encode(), size).decode() == out
    found = redactor().find(text.encode())
    assert len(found) == len(COVER.findall(out.encode()))
    assert redactor().covered(text.encode(), found).decode() == out


@pytest.mark.parametrize("name", [one for one in TEXTS if TEXTS[one][:1] == "{"])
def test_json_stays_json(name: str) -> None:
    json.loads(redactor().redact(TEXTS[name]))


def test_a_sensitive_number_becomes_a_text() -> None:
    text = '{"pin": {"sensitive": true, "type": "number", "value": 471147}}'
    out = redactor().redact(text)
    assert COVER.fullmatch(json.loads(out)["pin"]["value"].encode())
    assert redactor().redact(out) == out
    assert streamed(text.encode(), 3).decode() == out


def test_the_same_secret_has_one_fingerprint_in_yaml_and_json_and_by_its_shape() -> None:
    token = "ghp_" + "k3J9xQ2mZ7vB1nR8tY4wL6pD0sF5hG3cA9eU"
    texts = (dumped(secret(a=token)), json.dumps(secret(a=token)), dumped(manifest(a=token)), token)
    marks = {tuple(COVER.findall(redactor().redact(one).encode())) for one in texts}
    assert len(marks) == 1
    assert next(iter(marks))[0].startswith(b"[redacted:github-pat:")


@pytest.mark.parametrize("form", [dumped, json.dumps, lambda one: json.dumps(one, indent=2)])
def test_large_documents_are_covered_to_the_end(form: Any) -> None:
    rng = random.Random(11)
    values = {f"part-{n}": rng.randbytes(300).hex() for n in range(900)}
    text = form(listed(secret(**values), secret(last="swordfish")))
    assert len(text) > 4 * MOST_HELD
    out = redactor().redact(text)
    assert b64("swordfish") not in out
    assert not [one for one in values.values() if b64(one)[:40] in out]
    assert streamed(text.encode(), 50_000).decode() == out


def test_memory_stays_bounded_while_a_kind_is_waited_for() -> None:
    stream = Stream(redactor())
    out = len(stream.feed(b"apiVersion: v1\ndata:\n"))
    for number in range(5000):
        out += len(stream.feed(f"  key-{number}: plain words, and a number\n".encode() * 5))
        assert stream.taken - out < 2 * MOST_HELD
    assert out + len(stream.close()) == stream.taken


@pytest.mark.parametrize(
    "text",
    [
        "apiVersion: v1\nbinaryData:\n  logo: iVBORw0KGgoAAAANSUhEUg==\nkind: ConfigMap\n",
        "apiVersion: v1\ndata:\n  mode: fast\n  greeting: aGVsbG8gd29ybGQ=\nkind: ConfigMap\n",
        "data:\n  mode: fast\n  kind: blue\nmore: words\n",
        "kind: Secret\nmetadata:\n  name: shop\n---\nkind: ConfigMap\ndata:\n  a: b c d\n",
        "kind: ExternalSecret\nspec:\n  data:\n  - secretKey: a\n    remoteRef: {key: b}\n",
        '{"apiVersion": "v1", "kind": "ConfigMap", "data": {"mode": "fast"}}\n',
        '{"terraform_version": "1.9.5", "outputs": {"a": {"value": "open", "sensitive": false}}}',
        "kind: Secret\nthe log goes on\ndata:\n  words and more\n",
        "kind: Secret\nstringData:\n  a: ${A}\n  b: ''\n  c: null\n"
        "  d: ENC[AES256_GCM,data:eHl6,type:str]\n"
        "  e: <path:kv/data/shop#key>\ntype: Opaque\n",
    ],
)
def test_documents_without_a_secret_are_left(text: str) -> None:
    assert redactor().redact(text) == text
    assert streamed(text.encode(), 5).decode() == text


PIECES = (
    *("kind: Secret\n", "data:\n", "  a: c3dvcmRmaXNo\n", "    deep: eHg=\n", "  b: |\n", "---\n"),
    *("apiVersion: v1\n", "- kind: Secret\n", "  data:\n", "kind: ConfigMap\n", "stringData:\n"),
    *('{"apiVersion":"v1",', '"data":{"k":"c3dvcmRmaXNo"},', '"kind":"Secret"}', "{\n", "[\n"),
    *('"terraform_version": "1",', '"sensitive": true,', '"value": "open"', "}", "]", "\n", " "),
    *('"attributes": {"token": "abc", "n": 5},', '"sensitive_attributes": [["n"]]', '"', "\\"),
    *("a line of a log\n", "  c: plain words\n", "  password: hunter2\n", "x" * 900, "12", ","),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join), st.integers(1, 40))
def test_torn_documents_come_out_the_same_in_any_pieces_and_twice(text: str, size: int) -> None:
    out = redactor().redact_bytes(text.encode())
    assert streamed(text.encode(), size) == out
    assert redactor().redact_bytes(out) == out
