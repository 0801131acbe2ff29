"""Checks what HOUSE rules can be checked by a machine: sizes, crate walls, where unsafe and monoio may be named."""

import json
import re
import subprocess
import sys
from pathlib import Path

FILE_LINES, FUNCTION_LINES, MAIN_LINES = 600, 70, 120
problems = []


def code_of(path):
    """The file without its inline tests and without test files."""
    text = path.read_text()
    return text.split("#[cfg(test)]\nmod tests {")[0].splitlines()


def sources():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.rs"], capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        path = Path(name)
        parts = set(path.parts)
        if path.exists() and not parts & {"tests", "fuzz", "benches"} and path.name != "tests.rs":
            yield path


def functions(lines):
    """(name, length) of each function, by indentation: rustfmt guarantees it."""
    start = None
    for number, line in enumerate(lines):
        found = re.match(r"^(\s*)(?:pub(?:\([^)]*\))? )?(?:const |async |unsafe |extern \"C\" )*fn (\w+)", line)
        if found:
            start = (number, found.group(1), found.group(2))
        if start and line.rstrip() == start[1] + "}":
            yield start[2], number - start[0] + 1
            start = None


for path in sources():
    lines = code_of(path)
    limit = MAIN_LINES if path.name == "main.rs" else FILE_LINES
    if len(lines) > limit:
        problems.append(f"{path}: {len(lines)} lines, at most {limit}: is there a second reason to change in it?")
    for name, length in functions(lines):
        if length > FUNCTION_LINES:
            problems.append(f"{path}: fn {name} has {length} lines, at most {FUNCTION_LINES}")
    text = "\n".join(line for line in lines if not line.lstrip().startswith("//"))
    if path.name == "mod.rs":
        problems.append(f"{path}: modules are foo.rs beside foo/")
    if re.search(r"\bunsafe\b(?! fn| impl|-)", text) and "dataplane/src/sys" not in str(path) and "unsafe_code" not in text:
        problems.append(f"{path}: unsafe lives in dataplane/src/sys")
    allowed = ("dataplane/src/rt", "dataplane/src/sys", "dataplane/src/admin.rs")
    if str(path).startswith("dataplane/src") and re.search(r"\bmonoio(_http)?::", text) and not str(path).startswith(allowed):
        problems.append(f"{path}: only rt, sys and admin.rs name monoio")

metadata = json.loads(subprocess.run(["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"], capture_output=True, text=True, check=True).stdout)
forbidden = {
    # It decides from the pod alone: it knows neither our programs nor the tests.
    "kubelet": {"api", "bench", "controlplane", "dataplane", "dataplane-core", "perf-tests"},
    "api": {"monoio", "tokio", "kube", "dataplane", "dataplane-core"},
    "dataplane-core": {"monoio", "tokio", "kube", "rustix", "libc", "mio", "rand", "dataplane"},
    "dataplane": {"kube", "controlplane", "bench"},
    "controlplane": {"dataplane", "dataplane-core", "monoio"},
}
for package in metadata["packages"]:
    for dependency in package["dependencies"]:
        dev_of_shell = dependency["kind"] == "dev" and package["name"] == "dataplane"
        if dependency["name"] in forbidden.get(package["name"], ()) and not dev_of_shell:
            problems.append(f"{package['name']} must not depend on {dependency['name']}")

for problem in problems:
    print(problem)
print(f"{len(problems)} problems")
sys.exit(bool(problems))
