"""`python -m deploy.kubernetes.validate`: both trees, built by kustomize, against their schemas and our tests.

The tools and schemas are pinned and come from registries through their own clients: kustomize, kubeconform and the
resources of KEDA and of Prometheus' operator from Go modules (`go`), those of Strimzi and of Flink's operator from
Maven artifacts (`mvn`, and Java 21 for Strimzi's generator), Kubernetes' own from a Python package. Of ClickHouse's
operator there is no artifact: its resource is left out, unless KUBERNETES_CRDS names a folder with its definition.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Set
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
TREES = ("base", "overlays/kind")
KUBERNETES = "1.34.0"
TOOLS = {
    "kustomize": "sigs.k8s.io/kustomize/kustomize/v5@v5.7.1",
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0",
}
# Go module -> where in it the definitions are
MODULES = {
    "github.com/kedacore/keda/v2@v2.21.0": "config/crd/bases/keda.sh_scaledobjects.yaml",
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/monitoring.coreos.com_p*s.yaml"
    ),
}
# the newest in the registry; it knows Flink up to 1.20 and differs from 1.15's in nothing else that is used here
FLINK = "org.apache.flink:flink-kubernetes-operator-api:1.10.0"
FLINK_DEFINITION = "META-INF/fabric8/flinkdeployments.flink.apache.org-v1.yml"
FLINK_VERSION = "v2_2"
STRIMZI = "io.strimzi:crd-generator:1.2.0", "io.strimzi:api:1.2.0"
STRIMZI_MODELS = (
    "kafka.Kafka",
    "nodepool.KafkaNodePool",
    "topic.KafkaTopic",
    "connect.KafkaConnect",
    "connector.KafkaConnector",
)
JAVA = 21
DEFINITIONS = "/api/_definitions.json#/$defs/"


class ValidationError(Exception):
    """A tool is missing or failed, or a resource is wrong; the message says which and what to do."""


def _run(*command: str, **more: Any) -> str:
    if shutil.which(command[0]) is None:
        raise ValidationError(f"{command[0]} is not on this machine; `task kubernetes:validate` needs go, mvn and java")
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, check=False, capture_output=True, text=True, **more
    )
    if done.returncode:
        raise ValidationError(f"{' '.join(command[:3])} failed: {(done.stdout + done.stderr).strip()[-3000:]}")
    return done.stdout


def _tools(folder: Path) -> None:
    for name, module in TOOLS.items():
        if not (folder / name).exists():
            _run("go", "install", module, env={**os.environ, "GOBIN": str(folder)})


def _java() -> str:
    """A Java that runs Strimzi's generator: that of JAVA21_HOME, else the machine's.

    Raises:
        ValidationError: there is none that is new enough.
    """
    home = os.environ.get("JAVA21_HOME")
    java = str(Path(home) / "bin" / "java") if home else "java"
    said = subprocess.run([java, "-version"], check=False, capture_output=True, text=True).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < JAVA:
        raise ValidationError(f"Strimzi's generator needs Java {JAVA} or newer: set JAVA21_HOME to one")
    return java


def _copied(artifacts: tuple[str, ...], folder: Path) -> None:
    """The artifacts and what they need, as jars in the folder."""
    parts = [dict(zip(("groupId", "artifactId", "version"), each.split(":"), strict=True)) for each in artifacts]
    needs = "".join(f"<dependency>{''.join(f'<{k}>{v}</{k}>' for k, v in part.items())}</dependency>" for part in parts)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pom.xml").write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>local</groupId>'
        f"<artifactId>schemas</artifactId><version>1</version><dependencies>{needs}</dependencies></project>",
        "utf-8",
    )
    _run(
        "mvn", "-q", "-B", "-f", str(folder / "pom.xml"), "dependency:copy-dependencies", f"-DoutputDirectory={folder}"
    )


def _from_modules() -> Iterator[str]:
    for module, pattern in MODULES.items():
        place = json.loads(_run("go", "mod", "download", "-json", module, env={**os.environ, "GOFLAGS": "-mod=mod"}))
        yield from (path.read_text("utf-8") for path in sorted(Path(place["Dir"]).glob(pattern)))


def _from_flink(folder: Path) -> Iterator[str]:
    _copied((FLINK,), folder)
    with zipfile.ZipFile(next(folder.glob("flink-kubernetes-operator-api-*.jar"))) as jar:
        text = jar.read(FLINK_DEFINITION).decode()
    yield text.replace("- v1_20\n", f"- v1_20\n                - {FLINK_VERSION}\n", 1)


def _from_strimzi(folder: Path) -> Iterator[str]:
    _copied(STRIMZI, folder)
    java = _java()
    for model in STRIMZI_MODELS:
        made = folder / f"{model}.yaml"
        generator = ("io.strimzi.crdgenerator.CrdGenerator", "--yaml", "--api-versions", "v1")
        _run(java, "-cp", f"{folder}/*", *generator, f"io.strimzi.api.kafka.model.{model}={made}")
        yield made.read_text("utf-8")


def _given() -> Iterator[str]:
    folder = os.environ.get("KUBERNETES_CRDS")
    if folder:
        yield from (path.read_text("utf-8") for path in sorted(Path(folder).glob("*.y*ml")))


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


def custom_schemas(text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The schema of each version of each definition in a YAML text, by the name under which kubeconform looks."""
    for each in yaml.safe_load_all(text):
        if each and each["kind"] == "CustomResourceDefinition":
            spec = each["spec"]
            for version in spec["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                every = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
                schema["properties"] = {**schema["properties"], **every}
                yield f"{spec['group']}_{spec['names']['kind'].lower()}_{version['name']}", schema


def core_schemas() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Kubernetes' own, each with the definitions that it refers to."""
    place = resources.files("kubernetes_validate") / "kubernetes-json-schema" / f"v{KUBERNETES}-local-strict"
    definitions = json.loads((place / "_definitions.json").read_text("utf-8"))["$defs"]
    for full, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            if full.endswith(f".{kind['kind']}"):
                group = kind["group"] or "core"
                schema = {"$ref": f"#/$defs/{full}", "$defs": definitions}
                yield f"{group}_{kind['kind'].lower()}_{kind['version']}", schema


def schemas(folder: Path, work: Path, wanted: Set[str]) -> None:
    """Write the schemas of the wanted kinds into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = [*_from_modules(), *_from_flink(work / "flink"), *_from_strimzi(work / "strimzi"), *_given()]
    found = dict(core_schemas()) | {name: schema for text in texts for name, schema in custom_schemas(text)}
    for name in wanted & found.keys():
        (folder / f"{name}.json").write_text(json.dumps(found[name]), "utf-8")


def name_of(resource: Mapping[str, Any]) -> str:
    """The name of a resource's schema."""
    group, _, version = resource["apiVersion"].rpartition("/")
    return f"{group or 'core'}_{resource['kind'].lower()}_{version}"


def _conform(kubeconform: Path, folder: Path, text: str) -> str:
    """What kubeconform says of a built tree, and which kinds it was not asked about."""
    kinds = {each["kind"] for each in yaml.safe_load_all(text) if not (folder / f"{name_of(each)}.json").exists()}
    named = "{{ .ResourceKind }}_{{ .ResourceAPIVersion }}.json"
    places = (f"{folder}/{{{{ .Group }}}}_{named}", f"{folder}/core_{named}")
    options = [word for place in places for word in ("-schema-location", place)]
    if kinds:
        options += ["-skip", ",".join(sorted(kinds))]
    said = _run(str(kubeconform), "-strict", "-summary", *options, input=text).strip()
    return f"{said} (no schema: {', '.join(sorted(kinds))})" if kinds else said


def main() -> int:
    """Validate both trees, print what was validated, and return the exit status."""
    home = Path(os.environ.get("PLACAR_HOME", ROOT / ".placar")) / "kubernetes"
    tools = home / "bin"
    try:
        _tools(tools)
        built = {tree: _run(str(tools / "kustomize"), "build", str(HERE / tree)) for tree in TREES}
        wanted = {name_of(each) for text in built.values() for each in yaml.safe_load_all(text)}
        schemas(home / "schemas", home / "work", wanted)
        for tree, text in built.items():
            sys.stdout.write(f"{tree}: {_conform(tools / 'kubeconform', home / 'schemas', text)}\n")
            (home / f"{tree.replace('/', '-')}.yaml").write_text(text, "utf-8")
    except ValidationError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    tests = (sys.executable, "-m", "pytest", "-q", str(ROOT / "tests" / "unit" / "test_kubernetes.py"))
    return subprocess.run(tests, check=False, env={**os.environ, "KUBERNETES_BUILT": str(home)}).returncode


if __name__ == "__main__":
    raise SystemExit(main())
