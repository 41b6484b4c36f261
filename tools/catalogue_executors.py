"""What executors need to know beyond the names of objects, in services.yaml: shapes and values."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from domain.source_hints import wrong
from tools.catalogue_values import Label, Repository, Shape, Word, path_pattern
from tools.image_line import steps_of


def _check_placeholders(value: str, known: tuple[str, ...], what: str) -> None:
    """Raises for placeholders that are not known."""
    left = value
    for name in known:
        left = left.replace("{" + name + "}", "x")
    strange = re.search(r"\{[^{}]*\}?|\}", left)
    if strange:
        offered = " and ".join("{" + name + "}" for name in known)
        raise wrong(f"{what} has the unknown placeholder {strange[0]!r}", f"there is {offered}")


def source(value: Any) -> Any:
    """Where a Skaffold configuration lies in Cloud Storage."""
    if isinstance(value, str):
        if not re.fullmatch(r"gs://[a-z0-9][a-z0-9._-]+/\S+", value):
            raise wrong(
                f"{value[:70]!r} is not an object in Cloud Storage",
                "for example gs://acme-skaffold/checkout/{version}.tar.gz",
            )
        _check_placeholders(value, ("version",), "the source")
    return value


def in_repository(value: Any) -> Any:
    """A path below a repository's root, maybe with environment and service in it."""
    if isinstance(value, str):
        _check_placeholders(value, ("environment", "service"), "the path")
        if "*" in value:
            raise wrong(f"{value[:70]!r} is a pattern", "name one file")
    return path_pattern(value)


def entry(value: Any) -> Any:
    """The name of an image in a kustomization, maybe with environment and service in it."""
    if isinstance(value, str):
        _check_placeholders(value, ("environment", "service"), "the name")
    return value


def namespaced(value: Any) -> Any:
    """`namespace/name`, maybe with environment and service in it."""
    if isinstance(value, str):
        _check_placeholders(value, ("environment", "service"), "the name")
        plain = value.replace("{environment}", "x").replace("{service}", "x")
        if not re.fullmatch(r"[a-z0-9.-]+/[a-z0-9.-]+", plain):
            raise wrong(f"{value[:70]!r} is not an object", "write namespace/name")
    return value


def yaml_path(value: Any) -> Any:
    """A path into a YAML file."""
    if isinstance(value, str):
        try:
            steps_of(value)
        except ValueError as error:
            raise wrong(
                f"{value[:70]!r} is not a path into a YAML file: {error}",
                "for example image.tag, or spec.template.spec.containers[name=app].image",
            ) from None
    return value


Source = Annotated[str, BeforeValidator(source)]
InRepository = Annotated[str, BeforeValidator(in_repository)]
Entry = Annotated[str, BeforeValidator(entry)]
Namespaced = Annotated[str, BeforeValidator(namespaced)]
YamlPath = Annotated[str, BeforeValidator(yaml_path)]


class CloudDeployShape(Shape):
    """The delivery pipeline of a service that Cloud Deploy releases."""

    project: Word = Field(description="Google Cloud project", examples=["acme-prod"])
    location: Label = Field(description="region of the pipeline", examples=["europe-west1"])
    pipeline: Label = Field(description="delivery pipeline", examples=["checkout"])
    source: Source = Field(
        description="where the Skaffold configuration lies; {version} is the image's tag",
        examples=["gs://acme-skaffold/checkout/{version}.tar.gz"],
    )
    artifact: Word | None = Field(
        default=None, description="what the Skaffold configuration calls the image"
    )
    targets: dict[str, Label] = Field(
        default={}, description="environment to Cloud Deploy target, where the names differ"
    )
    approve: bool = Field(
        default=False, description="approve rollouts that wait for it, once our gate has decided"
    )


class GitOpsShape(Shape):
    """Where the image of a service stands in Git, and what brings it to the cluster."""

    repo: Repository | None = Field(default=None, description="repository of the manifests")
    branch: Word = Field(default="main", description="branch that the controller follows")
    file: InRepository = Field(
        description="file with the image", examples=["envs/{environment}/kustomization.yaml"]
    )
    kustomize: Entry | None = Field(
        default=None, description="entry in the kustomization's images", examples=["checkout"]
    )
    field: YamlPath | None = Field(
        default=None, description="YAML path of the image", examples=["image.tag"]
    )
    writes: Literal["image", "tag"] = "image"
    through: Literal["commit", "pull-request"] = "commit"
    merge: bool = Field(default=False, description="merge our own pull requests, if GitHub lets us")
    application: Namespaced | None = Field(
        default=None, description="Argo CD Application", examples=["argocd/checkout-{environment}"]
    )
    kustomization: Namespaced | None = Field(
        default=None, description="Flux Kustomization", examples=["flux-system/checkout"]
    )
