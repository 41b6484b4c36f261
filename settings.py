"""Settings: the only reader of the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """Everything that can be set from outside, frozen at start. Unset backends are simulated."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True
    )

    database_url: SecretStr | None = Field(
        default=None, description="PostgreSQL URL; unset: an embedded PostgreSQL under FERMATA_DATA"
    )
    redis_url: SecretStr | None = Field(
        default=None, description="Redis URL for the queue of hints; unset: PostgreSQL"
    )
    kubeconfig: str | None = Field(
        default=None, description="kubeconfig file; unset and not in a cluster: simulated"
    )
    kubernetes_service_host: str | None = Field(
        default=None, description="set by Kubernetes inside a pod; selects in-cluster credentials"
    )
    prometheus_url: str | None = Field(
        default=None, description="Prometheus base URL; unset: simulated"
    )
    prometheus_token: SecretStr | None = Field(
        default=None, description="bearer token for Prometheus, where it wants one"
    )
    github_webhook_secret: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(), description="webhook secret; comma separated while rotating"
    )
    github_token: SecretStr | None = Field(default=None, description="GitHub token; unset: dry run")
    github_app_id: str | None = Field(default=None, description="GitHub App id")
    github_app_private_key: SecretStr | None = Field(
        default=None, description="GitHub App private key (PEM)"
    )
    github_api_url: str = Field(
        default="https://api.github.com", description="GitHub REST base URL"
    )
    cloud_deploy_url: str | None = Field(
        default=None,
        description="Cloud Deploy's REST root, `https://clouddeploy.googleapis.com`; unset: "
        "services with this executor cannot be released, or are simulated with the cluster",
    )
    slack_webhook_url: SecretStr | None = Field(
        default=None, description="Slack incoming webhook; unset: dry run"
    )
    notify_webhook_url: SecretStr | None = Field(
        default=None, description="generic JSON webhook for notifications"
    )
    fermata_policy: Path = Field(default=Path("policy.yaml"), description="policy file")
    fermata_services: Path = Field(default=Path("services.yaml"), description="service catalogue")
    fermata_redaction_rules: Path | None = Field(
        default=None,
        description="rule file in the gitleaks TOML format; unset: the rules shipped "
        "(docs/redaction.md)",
    )
    fermata_tokens: Path | None = Field(
        default=None, description="token file: hash, principal, roles"
    )
    fermata_trusted_proxy_header: str | None = Field(
        default=None,
        description="header in which a proxy tells who somebody is; unset: nobody is believed",
    )
    fermata_trusted_proxy_roles_header: str | None = Field(
        default=None, description="header in which it tells their roles, comma separated"
    )
    fermata_trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="addresses or networks of that proxy; comma separated"
    )
    fermata_data: Path = Field(default=Path(".fermata"), description="data folder")
    fermata_dry_run: bool = Field(
        default=False, description="comments and notifications are rendered but not sent"
    )
    fermata_url: str | None = Field(
        default=None, description="public base URL of the pages, used in links"
    )
    fermata_token: SecretStr | None = Field(
        default=None, description="token that the command line sends"
    )
    fermata_log: str = Field(default="info", description="log level: debug, info, warning, error")
    fermata_world_speed: float = Field(
        default=1.0,
        gt=0,
        description="simulated seconds per real second, when the world is simulated",
    )

    @field_validator("github_webhook_secret", "fermata_trusted_proxies", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        """Several values, as one text with commas: secrets while one is being rotated, say."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object, info: ValidationInfo) -> object:
        """Templates of environments name every setting, and leave empty what is not used."""
        assert info.field_name is not None
        return cls.model_fields[info.field_name].default if value == "" else value


PAGE = """\
# Settings

Read from the environment, or from a file `.env` in the folder it is started in. This table is
written by `python -m settings > docs/settings.md`; a test fails when it is stale.

| setting | default | meaning |
|---|---|---|
{rows}

## Tokens

`FERMATA_TOKENS` names a YAML file (or JSON, one entry a line) with one entry a person or machine.
Only hashes are kept: `printf %s "$TOKEN" | sha256sum`.

```yaml
- hash: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  principal: grace
  login: grace-h        # on the forge, where it is another name
  roles: [release-manager]
  expires: 2027-01-31
```

The file is read again within a second of a change. One with a mistake changes nothing: the tokens
read before it stay in force, and the log and `/readyz` say so. `login` ties a token to a person on
the forge: nobody approves their own pull request, or votes twice, by using both.

Roles: `viewer` may look, `developer` may deploy, hold and cancel, `release-manager` and `sre-lead`
may do what `policy.yaml` lets them, `auditor` may read the audit record, `admin` may do all. A
token travels as `Authorization: Bearer TOKEN` or `x-api-key: TOKEN`. Without the file, the first
start on a loopback address makes one admin token and keeps it in `FERMATA_DATA/admin-token`.
What each address asks for stands in [roles.md](roles.md).

## A proxy that signs people in

With `FERMATA_TRUSTED_PROXY_HEADER` (such as `X-Forwarded-User`) and `FERMATA_TRUSTED_PROXIES`, a
request from one of those addresses is its named person's; `FERMATA_TRUSTED_PROXY_ROLES_HEADER`
tells the roles, and without it everybody is a `viewer`. This is off by default, and dangerous:
whoever can send that header from a listed address is whoever they like. List single addresses, have
the proxy remove the header from what clients send, and let nobody reach Fermata's port around it.
From any other address the header is refused, and a token in the request always comes first.
"""


def page() -> str:
    """The Markdown page about all settings."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.default
        shown = "" if default in (None, (), "") else f"`{default}`"
        rows.append(f"| `{name.upper()}` | {shown} | {field.description} |")
    return PAGE.format(rows="\n".join(rows))


if __name__ == "__main__":
    print(page(), end="")
