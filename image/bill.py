"""The bill of materials: what is in the image, in SPDX 2.3, from mkosi's manifest and the program's lock file."""

import re
import uuid

SPACE = uuid.UUID("3d8e2a3c-9d38-4d0e-8b0c-9a2f4f9d3e11")


def identifier(*words):
    return "SPDXRef-" + re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(words))


def package(spdx_id, name, version, purl):
    return {
        "SPDXID": spdx_id,
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}],
    }


def spdx(name, version, made_at, manifest, lock):
    image = package("SPDXRef-image", "solostack-image", version, f"pkg:generic/solostack-image@{version}")
    packages, relations = [image], []
    relations.append({"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-image"})
    parts = [
        (identifier("deb", row["name"]), row["name"], row["version"], f"pkg:deb/debian/{row['name']}@{row['version']}?arch={row['architecture']}")
        for row in manifest["packages"]
    ]
    parts += [
        (identifier("cargo", row["name"], row["version"]), row["name"], row["version"], f"pkg:cargo/{row['name']}@{row['version']}")
        for row in lock["package"]
    ]
    for spdx_id, part, part_version, purl in sorted(parts):
        packages.append(package(spdx_id, part, part_version, purl))
        relations.append({"spdxElementId": "SPDXRef-image", "relationshipType": "CONTAINS", "relatedSpdxElement": spdx_id})
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"urn:uuid:{uuid.uuid5(SPACE, name + repr(sorted(parts)))}",
        "creationInfo": {"created": made_at.strftime("%Y-%m-%dT%H:%M:%SZ"), "creators": ["Tool: solostack-image"]},
        "packages": packages,
        "relationships": relations,
    }
