"""The manifests are what the API of three versions of Kubernetes takes, to the last key."""

from __future__ import annotations

import copy

import pytest

from tests.deploy.files import DEPLOY, VERSIONS, documents, reasons

MANIFESTS = sorted(path for path in DEPLOY.glob("kubernetes/*.yaml") if path.name != "kustomization.yaml")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_the_api_takes(path, version):
    for document in documents(path):
        assert reasons(document, version) == []


def test_a_misspelt_key_would_be_noticed():
    (deployment,) = documents(DEPLOY / "kubernetes/deployment.yaml")
    wrong = copy.deepcopy(deployment)
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    assert "readinesProbe" in reasons(wrong, VERSIONS[-1])[0]


def test_the_kustomization_lists_every_manifest():
    (kustomization,) = documents(DEPLOY / "kubernetes/kustomization.yaml")
    assert sorted(kustomization["resources"]) == [path.name for path in MANIFESTS]


def test_labels_and_ports_by_which_one_manifest_finds_another_are_there():
    by_kind = {document["kind"]: document for path in MANIFESTS for document in documents(path)}
    pod = by_kind["Deployment"]["spec"]["template"]
    labels = pod["metadata"]["labels"].items()
    spec = by_kind["Deployment"]["spec"]["selector"]["matchLabels"]
    assert spec.items() <= labels
    assert by_kind["Service"]["spec"]["selector"].items() <= labels
    assert by_kind["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"].items() <= labels
    assert by_kind["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items() <= labels
    ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
    assert {port["targetPort"] for port in by_kind["Service"]["spec"]["ports"]} <= ports
    assert {port["port"] for rule in by_kind["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]} <= ports
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims == {by_kind["PersistentVolumeClaim"]["metadata"]["name"]}
    target = by_kind["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", by_kind["Deployment"]["metadata"]["name"])


# KServe and Knative bring types of their own, whose schemas no checker here has; what they hold for pods is Kubernetes'.
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["kserve/clusterservingruntime.yaml", "knative/service.yaml"])
def test_the_pod_inside_is_one_that_the_api_takes(name, version):
    (document,) = documents(DEPLOY / name)
    spec = document["spec"]
    spec = spec["template"]["spec"] if "template" in spec else spec
    inside = {key: copy.deepcopy(spec[key]) for key in ("containers", "volumes") if key in spec}
    for container in inside["containers"]:
        container.setdefault("name", "user-container")
        for probe in ("readinessProbe", "livenessProbe"):  # Knative puts its port there
            container[probe]["httpGet"].setdefault("port", 8080)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "inside"}, "spec": inside}
    assert reasons(pod, version) == []


def test_knative_gives_one_port_and_kserve_a_runtime_that_its_service_names():
    (service,) = documents(DEPLOY / "knative/service.yaml")
    assert [len(container["ports"]) for container in service["spec"]["template"]["spec"]["containers"]] == [1]
    (runtime,) = documents(DEPLOY / "kserve/clusterservingruntime.yaml")
    (inference,) = documents(DEPLOY / "kserve/inferenceservice.yaml")
    model = inference["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"]["name"] in {each["name"] for each in runtime["spec"]["supportedModelFormats"]}
    # The name by which KServe finds the container that serves.
    assert [container["name"] for container in runtime["spec"]["containers"]] == ["kserve-container"]
