"""`python -m deploy.sbom`: the Java parts of the images as a CycloneDX document, from jars.lock (for `task sbom`)."""

import re
import sys
from pathlib import PurePosixPath

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion

from deploy.native import jars

NAME = re.compile(r"(?P<name>.+?)-(?P<version>\d[\w.+-]*)")


def bom(lock: str) -> Bom:
    """Each jar of the lock with version and sha256; the same jar in two folders is one component."""
    jar_files = {
        (PurePosixPath(path).stem, locked.sha256): path
        for path, locked in jars.read_lock(lock).items()
        if path.endswith(".jar")
    }
    components = []
    for (stem, sha256), path in sorted(jar_files.items()):
        parts = NAME.fullmatch(stem)
        components.append(
            Component(
                name=parts["name"] if parts else stem,
                version=parts["version"] if parts else None,
                type=ComponentType.LIBRARY,
                bom_ref=path,
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)],
            )
        )
    return Bom(components=components, metadata=None)


def main() -> int:
    """Print the document; returns the exit status."""
    document = make_outputter(bom(jars.LOCK.read_text("utf-8")), OutputFormat.JSON, SchemaVersion.V1_6)
    sys.stdout.write(document.output_as_string(indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
