"""The shape of `security`, `signing` and `sbom`: what has to be known about an artefact."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from domain.source_hints import wrong
from policy.raw_values import Answer, Day, MaybeNames, Names, Raw

FINDING = r"^[A-Za-z][A-Za-z0-9._:-]{2,99}$"


class RawCvss(Raw):
    """What becomes of a vulnerability by its CVSS base score."""

    deny_from: Annotated[
        float, Field(ge=0, le=10, examples=[9.0], description="scores from here on deny")
    ]
    ask_from: Annotated[
        float, Field(ge=0, le=10, examples=[7.0], description="scores from here on ask people")
    ]
    unscored: Annotated[
        Answer, Field(examples=["approve"], description="a vulnerability without a score")
    ]

    @model_validator(mode="after")
    def _ordered(self) -> RawCvss:
        if self.ask_from > self.deny_from:
            raise wrong("`ask_from` is above `deny_from`", "nobody would be asked; lower it")
        return self


class RawEpss(Raw):
    """What becomes of a vulnerability that is likely to be exploited soon."""

    at_least: Annotated[
        float, Field(ge=0, le=1, examples=[0.5], description="probability, from 0 to 1")
    ]
    answer: Answer


class RawException(Raw):
    """A vulnerability that is let pass for a while, by somebody, for a reason."""

    finding: Annotated[
        str,
        Field(
            pattern=FINDING,
            examples=["CVE-2026-1234"],
            description="the vulnerability's name, as the scanner or an alias gives it",
        ),
    ]
    package: Annotated[
        str | None,
        Field(default=None, min_length=1, examples=["openssl"], description="only in this package"),
    ]
    services: Names = ("*",)
    environments: Names = ("*",)
    reason: Annotated[
        str,
        StringConstraints(strip_whitespace=True),
        Field(
            min_length=10,
            examples=["the vulnerable parser is never called"],
            description="why it may pass; at least 10 letters",
        ),
    ]
    owner: Annotated[
        str,
        StringConstraints(strip_whitespace=True),
        Field(min_length=1, examples=["team-checkout"], description="who answers for it"),
    ]
    expires: Annotated[
        Day,
        Field(examples=["2026-12-31"], description="last day on which it holds, in UTC"),
    ]


class RawSecrets(Raw):
    """Secrets in the change itself."""

    found: Annotated[Answer, Field(examples=["deny"], description="a secret stands in the change")]
    required_in: MaybeNames
    missing: Annotated[
        Answer,
        Field(examples=["deny"], description="nobody looked, or the scan was skipped or failed"),
    ]


class RawSecurity(Raw):
    """Vulnerabilities and secrets. What is unknown asks or denies; it never passes."""

    environments: Names
    required_in: MaybeNames
    missing: Annotated[
        Answer,
        Field(examples=["deny"], description="no scan, or one that was skipped or failed"),
    ]
    cvss: RawCvss
    known_exploited: Annotated[
        Answer, Field(examples=["deny"], description="on the list of known exploited ones (KEV)")
    ]
    epss: Annotated[RawEpss | None, Field(default=None, description="likely to be exploited")]
    vex_trusted: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(
            examples=[["security@acme.example"]],
            description="whose VEX statements count; `*`: anybody's; none: nobody's",
        ),
    ]
    exceptions: tuple[RawException, ...] = ()
    secrets: RawSecrets


class RawSigning(Raw):
    """The artefact's signature."""

    required_in: MaybeNames
    unverified: Annotated[
        Answer, Field(examples=["deny"], description="it was checked and does not hold")
    ]
    unknown: Annotated[Answer, Field(examples=["deny"], description="it was not checked")]


class RawSbom(Raw):
    """The artefact's bill of materials."""

    required_in: MaybeNames
    absent: Annotated[Answer, Field(examples=["deny"], description="there is none")]
    unknown: Annotated[
        Answer, Field(examples=["deny"], description="nobody can say whether there is one")
    ]
