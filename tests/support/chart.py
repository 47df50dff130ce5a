"""The Helm chart, rendered as `helm template` renders it, without a cluster."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helm_python
import yaml

from support.processes import REPOSITORY

CHART = REPOSITORY / "deploy/helm/celeryscope"
VALUES = sorted((CHART / "ci").glob("*-values.yaml"))
RELEASE, NAMESPACE = "release", "monitoring"

Manifest = dict[str, Any]


def values(name: str) -> dict[str, Any]:
    """A file of values that the tests have."""
    found: dict[str, Any] = yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text())
    return found


def render(given: Mapping[str, Any]) -> list[Manifest]:
    """All manifests. Raises HelmError where the schema or the chart refuses the values."""
    chart = helm_python.Chart.load(CHART)
    chart.validate_schema(dict(given))
    rendered = chart.render(dict(given), name=RELEASE, namespace=NAMESPACE)
    texts = [text for path, text in sorted(rendered.items()) if path.endswith(".yaml")]
    return [manifest for text in texts for manifest in yaml.safe_load_all(text) if manifest]


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    """The manifests of a kind."""
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def container(manifests: list[Manifest]) -> Manifest:
    """The Deployment's only container."""
    (deployment,) = of_kind(manifests, "Deployment")
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    found: Manifest = only
    return found


def lint(given: Mapping[str, Any]) -> list[str]:
    """What `helm lint --strict` finds: warnings and errors. That an icon is missing is a hint, no finding."""
    report = helm_python.lint(CHART, values=dict(given), strict=True, namespace=NAMESPACE)
    found = [f"{message['path']}: {message['error']}" for message in report["messages"] if message["severity"] > 1]
    return [*found, *report["errors"]]


def path_of(name: str) -> Path:
    """A file of the chart."""
    return CHART / name
