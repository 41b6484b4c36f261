"""The shape of the section `manifests` in `policy.yaml`: what objects have to be like."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from domain.source_hints import wrong
from policy.raw_values import Raw

Bearing = Annotated[
    Literal["deny", "approve", "ignore"],
    Field(
        examples=["deny"],
        description="what breaking the rule does to a release: deny it, or ask people; ignore: the "
        "rule is not looked at",
    ),
]
Demand = Literal["requests.cpu", "requests.memory", "limits.cpu", "limits.memory"]
Probe = Literal["readiness", "liveness", "startup"]


class RawManifestRules(Raw):
    """The built-in rules. Each has to be named, so that none is missing by an oversight."""

    image_tag: Annotated[Bearing, Field(alias="image-tag")]
    image_digest: Annotated[Bearing, Field(alias="image-digest")]
    image_registry: Annotated[Bearing, Field(alias="image-registry")]
    resources: Bearing
    network_policy: Annotated[Bearing, Field(alias="network-policy")]
    privileged: Bearing
    host_namespaces: Annotated[Bearing, Field(alias="host-namespaces")]
    host_path: Annotated[Bearing, Field(alias="host-path")]
    non_root: Annotated[Bearing, Field(alias="non-root")]
    privilege_escalation: Annotated[Bearing, Field(alias="privilege-escalation")]
    probes: Bearing


class RawManifestExempt(Raw):
    """What the built-in rules pass over. Constraints have exemptions of their own."""

    namespaces: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(
            default=(), examples=[["kube-system"]], description="namespaces; `*` for any letters"
        ),
    ]
    images: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(
            default=(),
            examples=[["registry.k8s.io/pause:*"]],
            description="images of containers; `*` stands for any letters",
        ),
    ]


class RawManifests(Raw):
    """Rules for manifests: for `fermata policy manifests`, and for what a release writes."""

    rules: RawManifestRules
    unreadable: Annotated[
        Literal["approve", "deny"],
        Field(
            examples=["approve"],
            description="a release whose objects cannot be read or judged: ask people, or deny",
        ),
    ]
    adopted: Annotated[
        Literal["image", "all"],
        Field(
            examples=["image"],
            description="built-in rules for a release into a Deployment that was there before: "
            "`image` holds it to those about what the release changes, `all` to every one",
        ),
    ]
    registries: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(
            default=(),
            examples=[["ghcr.io/acme", "*.pkg.dev"]],
            description="registries, or folders in them, that images may come from; none: any",
        ),
    ]
    resources: Annotated[
        tuple[Demand, ...],
        Field(
            default=("requests.cpu", "requests.memory", "limits.cpu", "limits.memory"),
            min_length=1,
            description="what the rule `resources` wants each container to state",
        ),
    ]
    probes: Annotated[
        tuple[Probe, ...],
        Field(
            default=("readiness", "liveness"),
            min_length=1,
            description="probes that the rule `probes` wants containers that keep running to have",
        ),
    ]
    exempt: RawManifestExempt = RawManifestExempt(namespaces=(), images=())
    constraints: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(
            default=(),
            examples=[["policies/constraints"]],
            description="folders of ConstraintTemplates and Constraints, from this file's folder",
        ),
    ]

    @field_validator("registries")
    @classmethod
    def _places(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if "://" in one or "@" in one or one != one.strip():
                raise wrong(
                    f"{one!r} is not a registry",
                    "write the host, and a folder if need be, as images name it: ghcr.io/acme",
                )
        return value
