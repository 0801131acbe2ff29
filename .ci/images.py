"""Builds the images of images/ from static programs, and shows that each holds what it should and works: images.py FOLDER-OF-PROGRAMS.

No registry and no daemon is asked: buildah takes the programs in place of a Containerfile's first stage, and the last one is FROM scratch. The
images lie in target/images afterwards, as archives for `podman load`. It takes root, for chroot and network namespaces."""

import http.server
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
WORK = HERE / "target" / "images"
BUILDAH = ["buildah", "--root", WORK / "store", "--runroot", WORK / "run", "--storage-driver", "vfs"]
USER = 65532
VERSION = re.search(r'^version = "(.+)"$', (HERE / "Cargo.toml").read_text(), re.MULTILINE)[1]
# What each image holds: its programs, of which it starts the first, and the folders that are its user's.
IMAGES = {
    "dataplane": (["kthena-dataplane"], ["var/lib/kthena"]),
    "controlplane": (["kthena-controlplane"], []),
    "tools": (["kthena-ask", "engine-sim"], []),
}
PATIENCE = 60
PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def run(*command):
    done = subprocess.run([str(word) for word in command], text=True, capture_output=True)
    if done.returncode:
        sys.exit(f"{command[0]} ended with {done.returncode}: {done.stderr}")
    return done.stdout.strip()


def expect(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: {found!r} instead of {expected!r}")


def build(name, programs):
    """The last stage of the Containerfile, with a folder in place of the stage that compiles."""
    (held, folders), stage, empty = IMAGES[name], WORK / "stage" / name, WORK / "empty"
    empty.mkdir(exist_ok=True)
    for folder in folders:
        (stage / "out" / folder).mkdir(parents=True)
        os.chown(stage / "out" / folder, USER, USER)
    (stage / "out").mkdir(parents=True, exist_ok=True)
    for program in held:
        shutil.copyfile(programs / program, stage / "out" / program)
        (stage / "out" / program).chmod(0o755)
    tag, archive = f"kthena-{name}:{VERSION}", WORK / f"kthena-{name}.tar"
    run(*BUILDAH, "build", "--isolation", "chroot", "--build-context", f"build={stage}", "--timestamp", run("git", "log", "-1", "--format=%ct"),
        "-f", HERE / "images" / f"{name}.Containerfile", "-t", tag, empty)
    run(*BUILDAH, "push", "--quiet", tag, f"oci-archive:{archive}:{tag}")
    return tag


def check_config(name, tag):
    image = json.loads(run(*BUILDAH, "inspect", "--type", "image", tag))
    config = image["OCIv1"]["config"]
    config.pop("Labels", None)
    config["Env"] = [entry for entry in config.get("Env", []) if not entry.startswith("PATH=")]
    expect(f"configuration of {tag}", config, {"User": f"{USER}:{USER}", "Entrypoint": [f"/usr/bin/{IMAGES[name][0][0]}"], "Env": []})
    return image["FromImageID"]


def check_files(name, tag, root):
    """All that is in it, folders too: no shell, no library, nothing by accident."""
    programs, folders = IMAGES[name]
    expected = {f"usr/bin/{program}": ("file", 0o755, 0) for program in programs}
    expected |= {folder: ("folder", 0o755, USER) for folder in folders}
    for path in list(expected):
        expected |= {str(parent): ("folder", 0o755, 0) for parent in Path(path).parents if str(parent) != "."}
    found = {}
    for path in root.rglob("*"):
        stat = path.lstat()
        kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "file"
        found[str(path.relative_to(root))] = (kind, stat.st_mode & 0o7777, stat.st_uid)
    expect(f"files of {tag}", found, expected)


def serve_names(names):
    """A name server that knows these, of this machine (RFC 1035, section 4)."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))

    def answer():
        while True:
            query, asker = server.recvfrom(512)
            end = query.index(0, 12)
            labels, at = [], 12
            while at < end:
                labels.append(query[at + 1 : at + 1 + query[at]].decode())
                at += 1 + query[at]
            known, wants_v4 = ".".join(labels) in names, query[end + 1 : end + 3] == b"\0\1"
            records = b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4\x7f\0\0\1" if known and wants_v4 else b""
            flags = b"\x81\x80" if known else b"\x81\x83"
            server.sendto(query[:2] + flags + b"\0\1" + bytes([0, bool(records)]) + b"\0\0\0\0" + query[12 : end + 5] + records, asker)

    threading.Thread(target=answer, daemon=True).start()


def serve_api(folder, name):
    """An API server by TLS that refuses everything. Returns the kubeconfig and the requests so far."""
    for who, name_of_it, more in ("ca", "a CA", []), ("server", name, ["-CA", folder / "ca.crt", "-CAkey", folder / "ca.key"]):
        extensions = [f"subjectAltName=DNS:{name}", f"basicConstraints=critical,CA:{'TRUE' if who == 'ca' else 'FALSE'}"]
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj", f"/CN={name_of_it}",
            "-keyout", folder / f"{who}.key", "-out", folder / f"{who}.crt", *more, *(word for entry in extensions for word in ("-addext", entry)))
    requests = []

    class Refusal(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            body = json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403, "message": "the test refuses"})
            self.send_response(403)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 6443), Refusal)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cluster = {"name": "c", "cluster": {"server": f"https://{name}:6443", "certificate-authority": "/given/ca.crt"}}
    user = {"name": "u", "user": {"token": "a.b.c"}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    return {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "users": [user], "contexts": [context], "current-context": "x"}, requests


class Container:
    """A root as a runtime makes it of an image: read-only, with /dev, /proc, what names are known by, and writable folders where the chart has them."""

    def __init__(self, root, given, writable=()):
        self.root = root
        mounts = {"dev": "/dev", "proc": "/proc", "etc": given / "etc", "given": given}
        for inside in [*mounts, *writable]:
            (root / inside).mkdir(parents=True, exist_ok=True)
        run("mount", "--bind", root, root)
        run("mount", "-o", "remount,bind,ro", root)
        for inside, outside in mounts.items():
            run("mount", "--rbind", outside, root / inside)
        for inside in writable:
            run("mount", "-t", "tmpfs", "-o", "mode=0777", "tmpfs", root / inside)

    def command(self, *words):
        return ["chroot", f"--userspec={USER}:{USER}", "--groups=", str(self.root), *words]

    def start(self, *words):
        """What it says goes to a file that stays."""
        log = (WORK / f"{Path(words[0]).name}.log").open("w")
        return subprocess.Popen(self.command(*words), env=PATH, stdout=log, stderr=log)

    def run(self, *words):
        return subprocess.run(self.command(*words), env=PATH, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def until(what, condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"not within {PATIENCE} s: {what}; what the programs said is in {WORK}")
        time.sleep(0.05)


def ready(url):
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False


def inside(roots):
    """In a network and with mounts of its own: the example of the quickstart, by the images."""
    run("ip", "link", "set", "lo", "up")
    given = WORK / "given"
    (given / "etc").mkdir(parents=True)
    shutil.copytree(HERE / "examples" / "quickstart", given / "manifests")
    (given / "etc" / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    router, api = "kthena-router.serving.svc", "api.kthena.test"
    serve_names({router, api})
    kubeconfig, requests = serve_api(given, api)
    (given / "kubeconfig").write_text(json.dumps(kubeconfig))

    tools, control = Container(roots["tools"], given), Container(roots["controlplane"], given)
    proxy = Container(roots["dataplane"], given, ["var/lib/kthena", "run/kthena"])
    for name, container in ("tools", tools), ("controlplane", control), ("dataplane", proxy):
        for program in IMAGES[name][0]:
            said = container.run(f"/usr/bin/{program}", "--version")
            expect(f"{program} --version", (said.returncode, said.stdout.split()[-1:]), (0, [VERSION]))
            print(f"kthena-{name}: {said.stdout.strip()}")

    tools.start("/usr/bin/engine-sim", "--listen=0.0.0.0:18001", "--model=llama-3-8b", "--loras=sql-adapter")
    control.start("/usr/bin/kthena-controlplane", "serve", "/given/manifests")
    until("the control plane is ready", lambda: ready("http://127.0.0.1:9091/readyz"))
    admin = "--admin-socket=/run/kthena/admin.sock"
    proxy.start("/usr/bin/kthena-dataplane", "--control-plane=127.0.0.1:15010", "--state-dir=/var/lib/kthena", "--bind=127.0.0.1", "--port=8080", admin)
    until("the data plane is ready", lambda: proxy.run("/usr/bin/kthena-dataplane", "probe", "--timeout=4", admin, "/readyz").returncode == 0)
    asked = tools.run("/usr/bin/kthena-ask", "--model=llama-3-8b", "--wait-s=30", f"{router}:8080")
    expect(f"kthena-ask: {asked.stdout}", asked.returncode, 0)
    print(f"engine, control plane and data plane: a request to {router} was answered, whole and streamed")
    unknown = tools.run("/usr/bin/kthena-ask", "--model=llama-3-8b", "--wait-s=0", "nobody.serving.svc:8080")
    expect(f"kthena-ask of an unknown name: {unknown.stdout}", unknown.returncode, 1)
    checked = control.run("/usr/bin/kthena-controlplane", "check", "--kubernetes", "--kubeconfig=/given/kubeconfig")
    expect(f"what the API server was asked, when the control plane said {checked.stdout!r}", bool(requests), True)
    print(f"control plane: https://{api} was found by name and believed, and was asked for {requests[0]}")


def outside(programs):
    if os.geteuid() != 0:
        sys.exit("it takes root")
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    roots = {}
    for name in IMAGES:
        tag = build(name, programs)
        identity = check_config(name, tag)
        roots[name] = Path(run(*BUILDAH, "mount", run(*BUILDAH, "from", tag)))
        check_files(name, tag, roots[name])
        size = (WORK / f"kthena-{name}.tar").stat().st_size / 1e6
        print(f"{tag}: {identity[:12]}, {size:.1f} MB packed in target/images/kthena-{name}.tar")
    paths = json.dumps({name: str(root) for name, root in roots.items()})
    unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    status = subprocess.run([*unshare, sys.executable, __file__, "--inside", paths]).returncode
    for folder in "store", "run", "stage", "empty", "given":
        shutil.rmtree(WORK / folder, ignore_errors=True)
    sys.exit(status)


if sys.argv[1] == "--inside":
    inside({name: Path(root) for name, root in json.loads(sys.argv[2]).items()})
else:
    outside(Path(sys.argv[1]).resolve())
