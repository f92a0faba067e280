"""`python -m deploy.kubernetes.validate`: both trees, built by kustomize, against the definitions of their operators.

Tools and definitions are pinned and come from registries through their own clients: kustomize and the resources of KEDA
and of Prometheus' operator from Go modules (`go`), those of Strimzi and of Flink's operator from Maven artifacts
(`mvn`, and Java 21 for Strimzi's generator). Of ClickHouse's operator there is no artifact: its resource is left out,
unless KUBERNETES_CRDS names a folder with its definition. The tests then check Kubernetes' own resources.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from deploy.native.settings import ROOT

HERE = Path(__file__).parent
TREES = ("base", "overlays/kind")
KUBERNETES = "1.34.0"
KUSTOMIZE = "sigs.k8s.io/kustomize/kustomize/v5@v5.7.1"
# Go module -> where in it the definitions are
MODULES = {
    "github.com/kedacore/keda/v2@v2.21.0": "config/crd/bases/keda.sh_scaledobjects.yaml",
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/monitoring.coreos.com_p*s.yaml"
    ),
}
FLINK_DEFINITION = "META-INF/fabric8/flinkdeployments.flink.apache.org-v1.yml"
FLINK_VERSION = "v2_2"
STRIMZI_MODELS = (
    "kafka.Kafka", "nodepool.KafkaNodePool", "topic.KafkaTopic", "connect.KafkaConnect", "connector.KafkaConnector",
)  # fmt: skip
JAVA = 21
OPERATORS = re.compile(r"(?!.*\.k8s\.io/).+\..+/.+")
"""The apiVersion of a resource that is not Kubernetes' own: its group is a domain outside k8s.io."""

Schema = Mapping[str, Any]


class ValidationError(Exception):
    """A tool is missing or failed, or a resource is wrong; the message says which and what to do."""


def _run(*command: str, **options: Any) -> str:
    if shutil.which(command[0]) is None:
        raise ValidationError(f"{command[0]} is not on this machine; `task kubernetes:validate` needs go, mvn and java")
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, check=False, capture_output=True, text=True, **options
    )
    if done.returncode:
        raise ValidationError(f"{' '.join(command[:3])} failed: {(done.stdout + done.stderr).strip()[-3000:]}")
    return done.stdout


def _java() -> str:
    """A Java that runs Strimzi's generator: that of JAVA21_HOME, else the machine's.

    Raises:
        ValidationError: there is none that is new enough.
    """
    home = os.environ.get("JAVA21_HOME")
    java = str(Path(home) / "bin" / "java") if home else "java"
    output = subprocess.run([java, "-version"], check=False, capture_output=True, text=True).stderr
    version = re.search(r'version "(\d+)', output)
    if version is None or int(version[1]) < JAVA:
        raise ValidationError(f"Strimzi's generator needs Java {JAVA} or newer: set JAVA21_HOME to one")
    return java


def _fetch(profile: str, folder: Path) -> Path:
    """The artifacts of a profile and their dependencies, as jars in the folder."""
    pom = ("-f", str(HERE / "maven" / "pom.xml"), f"-P{profile}")
    _run("mvn", "-q", "-B", *pom, "dependency:copy-dependencies", f"-DoutputDirectory={folder}")
    return folder


def _definitions(work: Path) -> Iterator[str]:
    """The YAML texts with the operators' definitions."""
    for module, pattern in MODULES.items():
        answer = _run("go", "mod", "download", "-json", module, env={**os.environ, "GOFLAGS": "-mod=mod"})
        yield from (path.read_text("utf-8") for path in sorted(Path(json.loads(answer)["Dir"]).glob(pattern)))
    flink, strimzi = (_fetch(profile, work / profile) for profile in ("flink", "strimzi"))
    with zipfile.ZipFile(next(flink.glob("flink-kubernetes-operator-api-*.jar"))) as jar:
        text = jar.read(FLINK_DEFINITION).decode()
    yield text.replace("- v1_20\n", f"- v1_20\n                - {FLINK_VERSION}\n", 1)
    generator = (_java(), "-cp", f"{strimzi}/*", "io.strimzi.crdgenerator.CrdGenerator", "--yaml", "--api-versions")
    for model in STRIMZI_MODELS:
        _run(*generator, "v1", f"io.strimzi.api.kafka.model.{model}={strimzi / model}.yaml")
        yield (strimzi / f"{model}.yaml").read_text("utf-8")
    given = os.environ.get("KUBERNETES_CRDS")
    yield from (path.read_text("utf-8") for path in sorted(Path(given).glob("*.y*ml"))) if given else ()


def strict(node: Any) -> Any:
    """The schema, with fields rejected that it does not name, and without descriptions."""
    if isinstance(node, list):
        return [strict(each) for each in node]
    if not isinstance(node, dict):
        return node
    kept = {key: strict(value) for key, value in node.items() if key != "description" or isinstance(value, dict)}
    if kept.get("x-kubernetes-int-or-string"):
        return {**{key: value for key, value in kept.items() if key != "anyOf"}, "type": ["integer", "string"]}
    closed = isinstance(kept.get("properties"), dict) and "additionalProperties" not in kept
    if kept.get("type") == "object" and closed and not kept.get("x-kubernetes-preserve-unknown-fields"):
        kept["additionalProperties"] = False
    return kept


def schemas(texts: Iterator[str]) -> dict[tuple[str, str], Schema]:
    """The schema of each version of each definition, by apiVersion and kind."""
    kinds = {}
    for each in (each for text in texts for each in yaml.safe_load_all(text)):
        if each and each["kind"] == "CustomResourceDefinition":
            spec = each["spec"]
            for version in spec["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                every = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
                schema["properties"] = {**schema["properties"], **every}
                kinds[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return kinds


def check(text: str, definitions: Mapping[tuple[str, str], Schema]) -> str:
    """How many resources of operators a built tree has, and which of their kinds have no definition.

    Raises:
        ValidationError: a resource has a field or value that its definition does not allow.
    """
    valid, without = 0, set()
    for each in yaml.safe_load_all(text):
        kind = (each["apiVersion"], each["kind"])
        if kind in definitions:
            errors = jsonschema.Draft202012Validator(definitions[kind]).iter_errors(each)
            if wrong := [f"{error.json_path}: {error.message[:300]}" for error in errors]:
                raise ValidationError(f"{each['kind']} {each['metadata']['name']}: {'; '.join(wrong)}")
            valid += 1
        elif OPERATORS.fullmatch(each["apiVersion"]):
            without.add(each["kind"])
    return f"{valid} resources of operators are valid" + (f"; no definition of {', '.join(without)}" if without else "")


def main() -> int:
    """Validate both trees, print what was validated, and return the exit status."""
    home = Path(os.environ.get("PLACAR_HOME", ROOT / ".placar")) / "kubernetes"
    try:
        built = {tree: _run("go", "run", KUSTOMIZE, "build", str(HERE / tree)) for tree in TREES}
        definitions = schemas(_definitions(home / "work"))
        for tree, text in built.items():
            sys.stdout.write(f"{tree}: {check(text, definitions)}\n")
            (home / f"{tree.replace('/', '-')}.yaml").write_text(text, "utf-8")
    except ValidationError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    tests = (sys.executable, "-m", "pytest", "-q", str(ROOT / "tests" / "unit" / "test_kubernetes.py"))
    return subprocess.run(tests, check=False, env={**os.environ, "KUBERNETES_BUILT": str(home)}).returncode


if __name__ == "__main__":
    raise SystemExit(main())
