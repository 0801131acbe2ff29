#!/usr/bin/env python3
"""Before and after of some pages of tuning/, on the machine that it runs on: CPU quota, a busy neighbour, backlog, ports, open files.

Needs root (a control group, a network namespace) and the release programs: `cargo build --release -p dataplane -p bench --bins`, then
`tuning/measure.py target/release`. It prints tables; nothing is left behind.
"""

import contextlib
import json
import os
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 7
ENGINE, PROXY, ADMIN = "127.0.0.2:18001", 18080, 18090
GROUP = Path("/sys/fs/cgroup/cpu/kthena-measure")
PERIOD_US = 100_000
SNAPSHOT = {
    "fleetSeed": "42",
    "routes": [{"name": "m/route", "model": "sim", "rules": [{"name": "all", "targets": [{"backend": "m/b", "weight": 100}]}]}],
    "backends": [{"name": "m/b", "engine": "VLLM", "profile": "p", "endpoints": [{"name": "m/e", "address": ENGINE}], "maxInFlight": 65536}],
    "profiles": [{"name": "p", "localityCost": {}}],
}


@contextlib.contextmanager
def program(command, cpus=None, group=None, files=None):
    """Runs it on these CPUs, in this control group and with so many open files, until the block ends."""

    def before():
        if group:
            (group / "cgroup.procs").write_text(str(os.getpid()))
        if cpus:
            os.sched_setaffinity(0, cpus)
        if files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    child = subprocess.Popen(command, preexec_fn=before, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def until_open(address, port):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((address, port), 1):
            return
        time.sleep(0.02)
    sys.exit(f"nothing listens at {address}:{port}")


@contextlib.contextmanager
def proxied(programs, folder, cores, **place):
    """An engine and a proxy before it."""
    snapshot = folder / "snapshot.json"
    snapshot.write_text(json.dumps(SNAPSHOT))
    engine = [programs / "engine-sim", f"--listen={ENGINE}", *place.pop("engine", ["--fast"])]
    command = [programs / "kthena-dataplane", f"--snapshot={snapshot}", f"--port={PROXY}", f"--metrics-port={ADMIN}", f"--cores={cores}"]
    with program(engine, place.pop("others", None)), program(command, **place):
        until_open(*ENGINE.split(":"))
        until_open("127.0.0.1", PROXY)
        yield


def load(programs, cpus, *arguments):
    command = [programs / "loadgen", "run", f"--target=127.0.0.1:{PROXY}", "--warmup-ms=500", "--duration-ms=3000", *arguments]
    done = subprocess.run(command, preexec_fn=lambda: os.sched_setaffinity(0, cpus), capture_output=True, check=True)
    report = json.loads(done.stdout)
    failed = sum(report["errors"].values())
    if failed:
        sys.exit(f"{failed} requests failed: {report['errors']}")
    return report


def table(title, cases, columns):
    """Median, least and most of the rounds of each case."""
    print(f"\n## {title}\n\n| |" + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for name, rounds in cases.items():
        cells = [[row[column] for row in rounds] for column in columns]
        print(f"| {name} | " + " | ".join(f"{statistics.median(c):,.1f} [{min(c):,.1f}, {max(c):,.1f}]" for c in cells) + " |")


def throttled():
    stat = dict(line.split() for line in (GROUP / "cpu.stat").read_text().splitlines())
    return int(stat["nr_throttled"]), int(stat["nr_periods"])


def quota(programs, folder):
    """A limit of one CPU, with two threads and with one."""
    GROUP.mkdir(exist_ok=True)
    cases = {f"limits.cpu: 1, --cores {cores}": [] for cores in (2, 1)}
    try:
        (GROUP / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (GROUP / "cpu.cfs_quota_us").write_text(str(PERIOD_US))
        for _ in range(ROUNDS):
            for cores, rounds in zip((2, 1), cases.values()):
                with proxied(programs, folder, cores, group=GROUP):
                    before = throttled()
                    report = load(programs, {0, 1}, "--connections=64", "--bytes=65536")
                    after = throttled()
                stopped = 100 * (after[0] - before[0]) / max(1, after[1] - before[1])
                latency = {name: report["latency"][f"{name}_us"] / 1000 for name in ("p50", "p99", "p999")}
                rounds.append({"requests/s": report["requests_per_s"], "p50, ms": latency["p50"], "p99, ms": latency["p99"],
                               "p99.9, ms": latency["p999"], "periods in which it was stopped, %": stopped})
    finally:
        GROUP.rmdir()
    table("CPU quota: 64 KB prompts, closed loop of 64 connections", cases, list(rounds[0]))


def neighbour(programs, folder):
    """The proxy's CPU for itself, and shared with a busy loop."""
    spin = [sys.executable, "-c", "while True: pass"]
    cases = {"a CPU of its own": [], "a busy loop on its CPU": []}
    for _ in range(ROUNDS):
        for rounds, busy in zip(cases.values(), (False, True)):
            beside = program(spin, cpus={0}) if busy else contextlib.nullcontext()
            with proxied(programs, folder, 1, cpus={0}, others={1}), beside:
                latency = load(programs, {1}, "--connections=32", "--rate=1000")["latency"]
            rounds.append({f"{name}, ms": latency[f"{key}_us"] / 1000 for name, key in (("p50", "p50"), ("p99", "p99"), ("p99.9", "p999"))})
    table("Core list: 1,000 requests of 1 KB a second, one thread", cases, list(rounds[0]))


def burst(many):
    """How long each of so many connections takes that are begun at once, in seconds."""
    selector, took, began = selectors.DefaultSelector(), [], time.monotonic()
    sockets = [socket.socket() for _ in range(many)]
    for each in sockets:
        each.setblocking(False)
        each.connect_ex(("127.0.0.1", PROXY))
        selector.register(each, selectors.EVENT_WRITE)
    while len(took) < many and time.monotonic() - began < 20:
        for key, _ in selector.select(1):
            selector.unregister(key.fileobj)
            took.append(time.monotonic() - began)
    for each in sockets:
        each.close()
    return took + [20.0] * (many - len(took))


def streams(many):
    """What so many clients are answered that come within four seconds and each ask for a stream of ten: statuses, 0 for nobody within five seconds."""
    body = json.dumps({"model": "sim", "stream": True, "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}).encode()
    request = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    selector, sockets, statuses, began = selectors.DefaultSelector(), [], [], time.monotonic()
    while len(statuses) < many and (took := time.monotonic() - began) < 9:
        while len(sockets) < min(many, took * many / 4):
            sockets.append(each := socket.socket())
            # Ports of their own, whatever the proxy's are.
            each.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
            each.bind((f"127.1.0.{1 + len(sockets) % 8}", 0))
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", PROXY))
            selector.register(each, selectors.EVENT_WRITE)
        for key, events in selector.select(0.01):
            if events & selectors.EVENT_WRITE:
                key.fileobj.send(request)
                selector.modify(key.fileobj, selectors.EVENT_READ)
                continue
            try:
                statuses.append(int(key.fileobj.recv(4096)[9:12]))
            except (OSError, ValueError):
                statuses.append(0)
            selector.unregister(key.fileobj)
    for each in sockets:
        each.close()
    return statuses + [0] * (many - len(statuses))


# All streams are there at once.
STREAMED = ["--gap-us=100000", "--max-num-seqs=4096"]


def told(statuses):
    known = {"answered": statuses.count(200), "answered 503": statuses.count(503), "not answered": statuses.count(0)}
    return known | {"answered otherwise": len(statuses) - sum(known.values())}


def ports(programs, folder):
    """2,000 streams to one engine, with fewer ports than that and with the kernel's own range."""
    cases = {"ports 50000 to 50999": "50000 50999", "ports 32768 to 60999": "32768 60999"}
    found = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, range_ in cases.items():
            Path("/proc/sys/net/ipv4/ip_local_port_range").write_text(range_)
            with proxied(programs, folder, 1, cpus={0}, others={1}, engine=STREAMED):
                found[name].append(told(streams(2000)))
    table("Ports: 2,000 streams to one engine", found, list(told([])))


LIMITS = (2048, 16384)


def open_files(programs, folder):
    """2,000 streams, each of which takes two descriptors."""
    found = {f"{limit:,} open files": [] for limit in LIMITS}
    for _ in range(ROUNDS):
        for limit, rounds in zip(LIMITS, found.values()):
            with proxied(programs, folder, 1, cpus={0}, others={1}, engine=STREAMED, files=limit):
                rounds.append(told(streams(2000)))
    table("Open files: 2,000 streams", found, list(told([])))


def backlog(programs, folder):
    """2,000 connections at once, with a short queue and with a long one."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    cases = {f"somaxconn {size}": [] for size in (128, 4096)}
    for _ in range(ROUNDS):
        for size, rounds in zip((128, 4096), cases.values()):
            Path("/proc/sys/net/core/somaxconn").write_text(str(size))
            with proxied(programs, folder, 1, cpus={0}, others={1}):
                took = burst(2000)
            rounds.append({"connections that took over 0.9 s": sum(each > 0.9 for each in took), "the last, s": max(took)})
    table("Backlog: a burst of 2,000 connections, one thread", cases, list(rounds[0]))


def main():
    # For the clients.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    programs = Path(sys.argv[1]).resolve()
    if len(sys.argv) > 2:
        with tempfile.TemporaryDirectory() as folder:
            backlog(programs, Path(folder))
            ports(programs, Path(folder))
            return open_files(programs, Path(folder))
    print("Median [least, most] of", ROUNDS, "interleaved rounds.")
    with tempfile.TemporaryDirectory() as folder:
        quota(programs, Path(folder))
        neighbour(programs, Path(folder))
    # In a network namespace of its own: somaxconn belongs to one.
    sys.stdout.flush()
    subprocess.run(["unshare", "--net", sys.executable, __file__, sys.argv[1], "backlog"], check=True)


if __name__ == "__main__":
    main()
