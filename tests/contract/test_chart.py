"""The Helm chart: no finding of helm or Kubernetes' schemas for any values, and the objects that values ask for."""

import re
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml

from celeryscope.config import SETTINGS
from support.chart import CHART, VALUES, Manifest, container, lint, of_kind, render, values

ROOT = Path(__file__).resolve().parents[2]
CUSTOM = {"ServiceMonitor", "PrometheusRule"}  # of the Prometheus Operator: not in Kubernetes' schemas
NAMES = [path.name.removesuffix("-values.yaml") for path in VALUES]


@cache
def manifests(name: str) -> tuple[Manifest, ...]:
    return tuple(render(values(name)))


def rendered(name: str) -> list[Manifest]:
    return deepcopy(list(manifests(name)))


def changed(name: str, **given: Any) -> list[Manifest]:
    return render({**values(name), **given})


class TestFindings:
    @pytest.mark.parametrize("name", NAMES)
    def test_helm_lint_has_none(self, name: str) -> None:
        assert lint(values(name)) == []

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("version", ["1.25", "1.34"])
    def test_kubernetes_knows_every_field(self, name: str, version: str) -> None:
        for manifest in rendered(name):
            if manifest["kind"] not in CUSTOM:
                kubernetes_validate.validate(manifest, version, strict=True)

    @pytest.mark.parametrize("name", NAMES)
    def test_every_object_is_named_labelled_and_in_the_namespace(self, name: str) -> None:
        found = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in rendered(name)]
        assert len(set(found)) == len(found)
        for manifest in rendered(name):
            assert manifest["metadata"]["namespace"] == "monitoring"
            assert manifest["metadata"]["labels"]["app.kubernetes.io/instance"] == "release"
            assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", manifest["metadata"]["name"])

    def test_a_value_that_nobody_knows_is_refused(self) -> None:
        with pytest.raises(helm_python.HelmError, match="replicas"):
            changed("minimal", replicas=2)

    def test_every_value_is_described(self) -> None:
        schema = yaml.safe_load((CHART / "values.schema.json").read_text())
        defaults = yaml.safe_load((CHART / "values.yaml").read_text())
        assert set(schema["properties"]) == {*defaults, "global"}

        def undescribed(part: dict[str, Any], path: str) -> list[str]:
            missing = [] if part.get("description") or not path or "type" not in part else [path]
            return missing + [
                found
                for name, inner in part.get("properties", {}).items()
                for found in undescribed(inner, f"{path}.{name}")
            ]

        assert undescribed(schema, "") == []


class TestBroker:
    def test_none_is_an_error_that_says_what_to_set(self) -> None:
        with pytest.raises(helm_python.HelmError, match=r"broker\.existingSecret\.name"):
            render({})

    def test_two_are_an_error(self) -> None:
        with pytest.raises(helm_python.HelmError, match="leave one of them"):
            changed("minimal", broker={"url": "redis://h", "existingSecret": {"name": "s"}})

    def test_its_url_is_a_file_and_never_in_the_deployment(self) -> None:
        found = changed("minimal", broker={"url": "redis://u:hush@h/0"})
        (secret,) = of_kind(found, "Secret")
        assert secret["stringData"] == {"broker-url": "redis://u:hush@h/0"}
        assert "hush" not in str([manifest for manifest in found if manifest["kind"] != "Secret"])

    def test_an_existing_secret_is_used_under_its_own_key(self) -> None:
        (deployment,) = of_kind(rendered("everything"), "Deployment")
        volumes = {volume["name"]: volume for volume in deployment["spec"]["template"]["spec"]["volumes"]}
        assert volumes["broker"]["secret"]["secretName"] == "celery-broker"
        assert volumes["broker"]["secret"]["items"] == [{"key": "url", "path": "url"}]
        assert of_kind(rendered("everything"), "Secret") == []


class TestPod:
    @pytest.mark.parametrize("name", NAMES)
    def test_may_do_nothing_but_run(self, name: str) -> None:
        (deployment,) = of_kind(rendered(name), "Deployment")
        pod = deployment["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        own = container(rendered(name))["securityContext"]
        assert own["readOnlyRootFilesystem"] is True
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}

    @pytest.mark.parametrize("name", NAMES)
    def test_variables_are_settings_of_the_exporter(self, name: str) -> None:
        known = {setting.variable for setting in SETTINGS.values()} | {"CELERYSCOPE_CONFIG"}
        assert {variable["name"] for variable in container(rendered(name))["env"]} <= known

    def test_is_probed_over_http(self) -> None:
        found = container(rendered("minimal"))
        assert found["livenessProbe"]["httpGet"] == {"path": "/-/healthy", "port": "metrics"}
        assert found["readinessProbe"]["httpGet"] == {"path": "/-/ready", "port": "metrics"}

    def test_is_probed_by_its_own_program_where_strangers_get_no_answer(self) -> None:
        found = container(rendered("tls"))
        assert found["readinessProbe"]["exec"]["command"] == ["python", "-m", "celeryscope.healthcheck", "ready"]
        assert "httpGet" not in found["livenessProbe"]

    def test_is_replaced_when_its_configuration_changes(self) -> None:
        def annotations(config: str) -> Any:
            (deployment,) = of_kind(changed("minimal", config=config), "Deployment")
            return deployment["spec"]["template"]["metadata"]["annotations"]

        assert annotations("passive = true") != annotations("passive = false")

    @pytest.mark.parametrize("name", NAMES)
    def test_runs_the_exporter_whatever_the_entry_point_of_the_image(self, name: str) -> None:
        found = container(rendered(name))
        assert found["command"] == ["celeryscope"]
        assert found["args"][0] == "run"

    def test_a_digest_wins_over_a_tag(self) -> None:
        assert container(rendered("everything"))["image"].startswith("registry.example/celeryscope@sha256:")
        assert container(rendered("minimal"))["image"] == "celeryscope:0.1.0"


class TestWhatIsAskedFor:
    def test_by_default_only_what_every_cluster_knows(self) -> None:
        assert {manifest["kind"] for manifest in rendered("minimal")} == {"Deployment", "Service", "ServiceAccount"}

    def test_two_replicas_are_not_drained_together(self) -> None:
        (budget,) = of_kind(rendered("ha"), "PodDisruptionBudget")
        (deployment,) = of_kind(rendered("ha"), "Deployment")
        assert budget["spec"]["selector"] == deployment["spec"]["selector"]
        assert "podAntiAffinity" in deployment["spec"]["template"]["spec"]["affinity"]

    def test_rules_are_those_of_the_repository(self) -> None:
        found = of_kind(rendered("ha"), "PrometheusRule")
        wanted = [yaml.safe_load((ROOT / f"alerts/{name}.rules.yml").read_text()) for name in ("recording", "core")]
        assert [rule["spec"] for rule in found] == wanted

    def test_links_of_alerts_lead_where_the_values_say(self) -> None:
        text = str(of_kind(rendered("everything"), "PrometheusRule"))
        assert "https://runbooks.example/celery/CeleryExporterDown" in text
        assert "https://grafana.example/d/celeryscope-exporter" in text
        assert "localhost" not in text

    def test_the_monitor_selects_the_service(self) -> None:
        for name in ("ha", "tls", "everything"):
            (monitor,) = of_kind(rendered(name), "ServiceMonitor")
            (service,) = of_kind(rendered(name), "Service")
            assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
            assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]

    def test_every_dashboard_has_a_config_map_for_the_sidecar(self) -> None:
        found = [
            m for m in of_kind(rendered("everything"), "ConfigMap") if "grafana_dashboard" in m["metadata"]["labels"]
        ]
        shipped = {path.name for path in (CHART / "files/dashboards").glob("*.json")}
        assert {name for manifest in found for name in manifest["data"]} == shipped
        for manifest in found:
            assert len(str(manifest)) < 2**20  # as large as an object may be

    def test_the_usual_ports_of_brokers_and_their_management_are_open(self) -> None:
        (policy,) = of_kind(changed("minimal", networkPolicy={"enabled": True}), "NetworkPolicy")
        assert [rule["port"] for rule in policy["spec"]["egress"][1]["ports"]] == [6379, 5672, 15672]

    def test_only_the_broker_is_reached_and_only_peers_reach_it(self) -> None:
        (policy,) = of_kind(rendered("everything"), "NetworkPolicy")
        ports = [port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]]
        assert ports == [53, 53, 5671, 15671, 26379]
        assert policy["spec"]["ingress"][0]["from"] == values("everything")["networkPolicy"]["ingressFrom"]
