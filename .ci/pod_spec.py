"""Makes controlplane/src/crd/pod_spec.json, the schema of core/v1 PodSpec that pod templates in our CRDs carry.

    go mod download -json k8s.io/kubernetes@v1.36.3      # prints Dir
    python3 .ci/pod_spec.py DIR/api/openapi-spec/v3/api__v1_openapi.json

k8s-openapi's own schema has neither list keys (server-side apply would replace whole lists of containers) nor defaults.
Descriptions are left out: with them one CRD is larger than `kubectl apply` can send.
"""

import json
import sys
from pathlib import Path

schemas = json.load(open(sys.argv[1]))["components"]["schemas"]
KEPT = {"type", "format", "required", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type"}
# The same address may be written twice: Kthena has a test for it.
PLAIN_LISTS = {"hostAliases"}


def structural(node):
    """The node with references resolved, in the form that a CRD may hold."""
    for part in node.get("allOf", []) + ([node] if "$ref" in node else []):
        if "$ref" in part:
            name = part["$ref"].rsplit("/", 1)[1]
            if name.endswith((".Quantity", ".IntOrString")):
                return {"x-kubernetes-int-or-string": True}
            kept = structural(schemas[name])
            return {**kept, **{k: v for k, v in node.items() if k in KEPT}}
    result = {k: v for k, v in node.items() if k in KEPT}
    required = set(node.get("required", []))
    if "properties" in node:
        result["properties"] = {}
        for name, child in sorted(node["properties"].items()):
            made = structural(child)
            default = child.get("default")
            # The defaults of required fields and of objects are Go's zero values, not Kubernetes' defaults.
            if default is not None and default != {} and name not in required:
                made["default"] = default
            if name in PLAIN_LISTS:
                made.pop("x-kubernetes-list-map-keys", None)
                made["x-kubernetes-list-type"] = "atomic"
            result["properties"][name] = made
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            result[key] = structural(node[key])
    return result


pod_spec = structural(schemas["io.k8s.api.core.v1.PodSpec"])
target = Path(__file__).parent.parent / "controlplane/src/crd/pod_spec.json"
target.write_text(json.dumps(pod_spec, sort_keys=True, separators=(",", ":")).replace('},"', '},\n"') + "\n")
print(f"{target}: {target.stat().st_size} bytes")
