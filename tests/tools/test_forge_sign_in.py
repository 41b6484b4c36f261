"""Who the forge is: a token, a token of GitHub Actions, or a GitHub App."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import SecretStr

from domain.errors import Permanent, Temporary
from tests.servers.github import GitHubServer, Pull, Repo
from tests.servers.local import Fault
from tests.tools.forge_cases import QUICK, SECRET, Asked, comment, stamp
from tools.forge import GitHubForge
from tools.github_client import App, GitHubClient, Token


async def test_a_token_of_github_actions_knows_itself() -> None:
    async with GitHubServer(token=SECRET) as server:
        server.repos["acme/shop"] = Repo(pulls={7: Pull()})
        server.actions_token = True
        server.login = "github-actions[bot]"
        client = GitHubClient(Token(SecretStr(SECRET)), base_url=server.url, pace=QUICK)
        forge = GitHubForge(client)
        for text in ("one", "two"):
            await forge.apply(comment(text), stamp(comment(text)), Asked())
        assert len(server.repos["acme/shop"].pulls[7].comments) == 1
        await client.aclose()


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()


def public_pem(key: rsa.RSAPrivateKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


async def test_an_app_signs_in_once_and_comments_as_its_bot(key: rsa.RSAPrivateKey) -> None:
    async with GitHubServer(app_id="42", app_public_key=public_pem(key)) as server:
        server.repos["acme/shop"] = Repo(pulls={7: Pull()})
        credentials = App("42", SecretStr(pem(key).replace("\n", "\\n")))
        client = GitHubClient(credentials, base_url=server.url, pace=QUICK)
        forge = GitHubForge(client)
        for text in ("one", "two"):
            await forge.apply(comment(text), stamp(comment(text)), Asked())
        assert await forge.head_sha("acme/shop", 7) == "a" * 40
        assert [one.login for one in server.repos["acme/shop"].pulls[7].comments] == [
            "fermata[bot]"
        ]
        assert len(server.requests("POST", "/access_tokens$")) == 1
        assert len(server.requests("GET", "/installation$")) == 1
        assert pem(key)[40:60] not in repr(client) + repr(credentials)
        await client.aclose()


async def test_an_app_that_is_not_installed_says_so(key: rsa.RSAPrivateKey) -> None:
    async with GitHubServer(app_id="42", app_public_key=public_pem(key)) as server:
        client = GitHubClient(App("42", SecretStr(pem(key))), base_url=server.url, pace=QUICK)
        with pytest.raises(Permanent, match="installation"):
            await GitHubForge(client).apply(comment(), stamp(comment()), Asked())
        await client.aclose()


@pytest.mark.parametrize("way", ["refused", "cut", "hang"])
async def test_a_failed_sign_in_changed_nothing(key: rsa.RSAPrivateKey, way: str) -> None:
    fault = Fault("POST", "/access_tokens$", status=401, times=9)
    fault.cut, fault.hang = ("before" if way == "cut" else None), way == "hang"
    async with GitHubServer(app_id="42", app_public_key=public_pem(key)) as server:
        server.repos["acme/shop"] = Repo(pulls={7: Pull()})
        server.faults.append(fault)
        client = GitHubClient(App("42", SecretStr(pem(key))), base_url=server.url, pace=QUICK)

        with pytest.raises((Temporary, Permanent)):
            await client.write(
                "POST", "/issues/7/comments", repo="acme/shop", guard=Asked(), body={"body": "x"}
            )
        with pytest.raises((Temporary, Permanent)):
            await GitHubForge(client).apply(comment(), stamp(comment()), Asked(lost_at=1))
        assert server.repos["acme/shop"].pulls[7].comments == []
        await client.aclose()


@pytest.mark.parametrize(
    "key_text", ["", "not a key", "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END-----"]
)
def test_a_key_that_is_none_is_refused_at_the_start(key_text: str) -> None:
    with pytest.raises(Permanent, match="private key") as caught:
        GitHubClient(App("42", SecretStr(key_text)))
    assert "GITHUB_APP_PRIVATE_KEY" in caught.value.remedy


@pytest.mark.parametrize("token", ["", "  ", "two words", "tök", "a\nb"])
def test_a_token_that_is_none_is_refused_at_the_start(token: str) -> None:
    with pytest.raises(Permanent, match="token"):
        GitHubClient(Token(SecretStr(token)))


async def test_an_app_looks_up_teams_as_installed_in_the_organisation(
    key: rsa.RSAPrivateKey,
) -> None:
    async with GitHubServer(app_id="42", app_public_key=public_pem(key)) as server:
        server.teams["acme/sre"] = {"sam": "active"}
        client = GitHubClient(App("42", SecretStr(pem(key))), base_url=server.url, pace=QUICK)
        assert await GitHubForge(client).teams_of("sam", ("acme/sre",)) == ("acme/sre",)
        await client.aclose()
