#!/usr/bin/env python3
"""Before and after of some pages of tuning/, on the machine that it runs on: CPU quota, a busy neighbour, the rings' memory, huge pages, backlog,
ports, open files.

Needs root (control groups of either version, a network namespace) and the release programs: `cargo build --release -p dataplane -p bench --bins`,
then `tuning/measure.py target/release`. It prints tables, and with --raw FILE puts every value of every round there; nothing else is left behind.
"""

import argparse
import contextlib
import ctypes
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

ENGINE, PROXY, ADMIN = "127.0.0.2:18001", 18080, 18090
CGROUPS = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
SNAPSHOT = {
    "fleetSeed": "42",
    "routes": [{"name": "m/route", "model": "sim", "rules": [{"name": "all", "targets": [{"backend": "m/b", "weight": 100}]}]}],
    "backends": [{"name": "m/b", "engine": "VLLM", "profile": "p", "endpoints": [{"name": "m/e", "address": ENGINE}], "maxInFlight": 65536}],
    "profiles": [{"name": "p", "localityCost": {}}],
}


@contextlib.contextmanager
def control_group(controller):
    """One of its own, and whether it is of version 1, where each controller has a hierarchy."""
    first = (CGROUPS / controller / "cgroup.procs").exists()
    group = (CGROUPS / controller if first else CGROUPS) / "kthena-measure"
    group.mkdir(exist_ok=True)
    try:
        if not first and controller not in (group / "cgroup.controllers").read_text().split():
            sys.exit(f"{CGROUPS} hands its groups no {controller}: echo +{controller} > {CGROUPS}/cgroup.subtree_control")
        yield group, first
    finally:
        group.rmdir()


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
    flags = place.pop("flags", [])
    command = [programs / "kthena-dataplane", f"--snapshot={snapshot}", f"--port={PROXY}", f"--metrics-port={ADMIN}", f"--cores={cores}", *flags]
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


def table(title, cases):
    """Median, least and most of the rounds of each case."""
    columns = list(next(iter(cases.values()))[0])
    print(f"\n## {title}\n\n{rounds_said(cases)}\n\n| |" + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for name, rounds in cases.items():
        cells = [[row[column] for row in rounds] for column in columns]
        print(f"| {name} | " + " | ".join(f"{statistics.median(c):,.1f} [{min(c):,.1f}, {max(c):,.1f}]" for c in cells) + " |")
    sys.stdout.flush()
    if ARGUMENTS.raw:
        known = json.loads(ARGUMENTS.raw.read_text()) if ARGUMENTS.raw.exists() else {}
        ARGUMENTS.raw.write_text(json.dumps(known | {title: {"began": BEGAN, "load_average": LOAD, "rounds": cases}}, indent=1) + "\n")


def rounds_said(cases):
    """As many as there were, not as many as were asked for."""
    counts = {len(rounds) for rounds in cases.values()}
    return f"Median [least, most] of {'/'.join(map(str, sorted(counts)))} interleaved rounds."


def throttled(group):
    stat = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
    return int(stat["nr_throttled"]), int(stat["nr_periods"])


def quota(programs, folder):
    """A limit of one CPU, with two threads and with one."""
    cases = {f"limits.cpu: 1, --cores {cores}": [] for cores in (2, 1)}
    with control_group("cpu") as (group, first):
        limit = {"cpu.cfs_period_us": PERIOD_US, "cpu.cfs_quota_us": PERIOD_US} if first else {"cpu.max": f"{PERIOD_US} {PERIOD_US}"}
        for name, value in limit.items():
            (group / name).write_text(str(value))
        for _ in range(ARGUMENTS.rounds):
            for cores, rounds in zip((2, 1), cases.values()):
                with proxied(programs, folder, cores, group=group):
                    before = throttled(group)
                    report = load(programs, {0, 1}, "--connections=64", "--bytes=65536")
                    after = throttled(group)
                stopped = 100 * (after[0] - before[0]) / max(1, after[1] - before[1])
                latency = {name: report["latency"][f"{name}_us"] / 1000 for name in ("p50", "p99", "p999")}
                rounds.append({"requests/s": report["requests_per_s"], "p50, ms": latency["p50"], "p99, ms": latency["p99"],
                               "p99.9, ms": latency["p999"], "periods in which it was stopped, %": stopped})
    table("CPU quota: 64 KB prompts, closed loop of 64 connections", cases)


# Many, so that what the kernel charges in steps of some pages does not count.
RING_CORES = (1, 33)


def rings(programs, folder):
    """What a core's ring takes of the control group's memory: what each core takes on io_uring and not on epoll."""
    found = {f"each of {RING_CORES[1] - RING_CORES[0]} cores": []}
    for _ in range(ARGUMENTS.rounds):
        per_core = {}
        for driver in ("uring", "epoll"):
            one, many = (kernel_bytes(programs, folder, driver, cores) for cores in RING_CORES)
            per_core[driver] = (many - one) / (RING_CORES[1] - RING_CORES[0]) / 1024
        found[next(iter(found))].append({"on io_uring, KiB": per_core["uring"], "on epoll, KiB": per_core["epoll"],
                                         "its ring, KiB": per_core["uring"] - per_core["epoll"]})
    table("Rings: the kernel's memory of the control group", found)


def kernel_bytes(programs, folder, driver, cores):
    """Once it does not change any more: some cores begin after the first one listens."""
    with control_group("memory") as (group, first):
        def now():
            if first:
                return int((group / "memory.kmem.usage_in_bytes").read_text())
            return int(dict(line.split() for line in (group / "memory.stat").read_text().splitlines())["kernel"])

        with proxied(programs, folder, cores, group=group, flags=[f"--io-driver={driver}"]):
            seen = [now()]
            while len(seen) < 10 or len(set(seen[-10:])) > 1:
                time.sleep(0.05)
                seen.append(now())
            return seen[-1]


def huge_pages(programs, folder):
    """Look-ups in a prefix table of 10^6 keys, with pages of 2 MiB and without: of the bench `micro`, whose allocator asks for them or not."""
    cases = {"pages of 2 MiB": [], "pages of 4 KiB": []}
    for _ in range(ARGUMENTS.rounds):
        for huge, rounds in zip((True, False), cases.values()):
            rounds.append(look_ups(programs, huge))
    table("Huge pages: look-ups in a prefix table of 10^6 keys, µs", cases)


def look_ups(programs, huge):
    def without():
        if ctypes.CDLL(None, use_errno=True).prctl(41, 1, 0, 0, 0):  # PR_SET_THP_DISABLE, which outlives the exec
            raise OSError(ctypes.get_errno(), "PR_SET_THP_DISABLE")

    # Of mimalloc: it advises the kernel to take huge pages, as far as /sys/kernel/mm/transparent_hugepage/enabled is not `never`.
    variables = os.environ | {"MIMALLOC_ALLOW_LARGE_OS_PAGES": str(int(huge))}
    child = subprocess.Popen([programs / "micro", "--quick"], preexec_fn=None if huge else without, env=variables, text=True, stdout=subprocess.PIPE)
    row, most = {}, 0
    for line in child.stdout:
        with contextlib.suppress(OSError, IndexError):
            rollup = Path(f"/proc/{child.pid}/smaps_rollup").read_text()
            most = max(most, int(rollup.split("AnonHugePages:")[1].split()[0]))
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 2 and cells[1].startswith("look-up of"):
            row[cells[1].removeprefix("look-up of ").replace(" 1000000 keys,", "")] = float(cells[2])
    if child.wait() or not row:
        sys.exit(f"micro ended with {child.returncode}, and said of look-ups {row}")
    return row | {"MiB in huge pages at most": most / 1024}


def neighbour(programs, folder):
    """The proxy's CPU for itself, and shared with a busy loop."""
    spin = [sys.executable, "-c", "while True: pass"]
    cases = {"a CPU of its own": [], "a busy loop on its CPU": []}
    for _ in range(ARGUMENTS.rounds):
        for rounds, busy in zip(cases.values(), (False, True)):
            beside = program(spin, cpus={0}) if busy else contextlib.nullcontext()
            with proxied(programs, folder, 1, cpus={0}, others={1}), beside:
                latency = load(programs, {1}, "--connections=32", "--rate=1000")["latency"]
            rounds.append({f"{name}, ms": latency[f"{key}_us"] / 1000 for name, key in (("p50", "p50"), ("p99", "p99"), ("p99.9", "p999"))})
    table("Core list: 1,000 requests of 1 KB a second, one thread", cases)


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
    for _ in range(ARGUMENTS.rounds):
        for name, range_ in cases.items():
            Path("/proc/sys/net/ipv4/ip_local_port_range").write_text(range_)
            with proxied(programs, folder, 1, cpus={0}, others={1}, engine=STREAMED):
                found[name].append(told(streams(2000)))
    table("Ports: 2,000 streams to one engine", found)


LIMITS = (2048, 16384)


def open_files(programs, folder):
    """2,000 streams, each of which takes two descriptors."""
    found = {f"{limit:,} open files": [] for limit in LIMITS}
    for _ in range(ARGUMENTS.rounds):
        for limit, rounds in zip(LIMITS, found.values()):
            with proxied(programs, folder, 1, cpus={0}, others={1}, engine=STREAMED, files=limit):
                rounds.append(told(streams(2000)))
    table("Open files: 2,000 streams", found)


def backlog(programs, folder):
    """2,000 connections at once, with a short queue and with a long one."""
    cases = {f"somaxconn {size}": [] for size in (128, 4096)}
    for _ in range(ARGUMENTS.rounds):
        for size, rounds in zip((128, 4096), cases.values()):
            Path("/proc/sys/net/core/somaxconn").write_text(str(size))
            with proxied(programs, folder, 1, cpus={0}, others={1}):
                took = burst(2000)
            rounds.append({"connections that took over 0.9 s": sum(each > 0.9 for each in took), "the last, s": max(took)})
    table("Backlog: a burst of 2,000 connections, one thread", cases)


# Those of the second line set sysctls of a network: they get one of their own.
PARTS = {"quota": quota, "neighbour": neighbour, "rings": rings, "huge-pages": huge_pages,
         "backlog": backlog, "ports": ports, "open-files": open_files}
OF_A_NETWORK = ("backlog", "ports", "open-files")
INSIDE = "KTHENA_MEASURE_INSIDE"
BEGAN, LOAD = time.strftime("%FT%TZ", time.gmtime()), os.getloadavg()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("programs", type=Path, help="the folder of the programs")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--raw", type=Path, help="a JSON file for all values; what it has of other parts stays")
    found = parser.parse_args()
    if unknown := set(found.parts) - set(PARTS):
        parser.error(f"there is no {', '.join(unknown)}: {', '.join(PARTS)}")
    return found


def main():
    # For the clients.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    parts = ARGUMENTS.parts or list(PARTS)
    inside = INSIDE in os.environ
    if inside:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            if inside or part not in OF_A_NETWORK:
                PARTS[part](ARGUMENTS.programs.resolve(), Path(folder))
    if not inside and (rest := [part for part in parts if part in OF_A_NETWORK]):
        raw = [f"--raw={ARGUMENTS.raw}"] if ARGUMENTS.raw else []
        again = [sys.executable, __file__, *raw, f"--rounds={ARGUMENTS.rounds}", str(ARGUMENTS.programs), *rest]
        subprocess.run(["unshare", "--net", *again], env=os.environ | {INSIDE: "1"}, check=True)


if __name__ == "__main__":
    ARGUMENTS = arguments()
    main()
