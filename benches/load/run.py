#!/usr/bin/env python3
"""The whole gateway beside nginx and a bare Pingora, in front of one mock provider: interleaved runs, one table. And its bridge lane
beside its splice lane, in a table of its own.

`make bench` builds everything and calls this; see README.md here. Loopback only; no root needed.
"""
import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request

import bodies
import process
import table

HERE = os.path.dirname(os.path.abspath(__file__))
KEY = "sk-bench-0123456789abcdef"
ADMIN = "http://127.0.0.1:9111"

WRK = ("c1", "c64", "d50", "k100", "m1", "inflight", "b1", "b64", "bm1", "r1", "r64")
RUNS = {
    # whole replies: connections, seconds, body, the provider's delay
    "c1": dict(connections=1, seconds=3, body="chat-1k"),
    "c64": dict(connections=64, seconds=5, body="chat-1k"),
    "d50": dict(connections=64, seconds=4, body="chat-1k", delay_ms=50),
    "k100": dict(connections=16, seconds=4, body="chat-100k"),
    "m1": dict(connections=8, seconds=4, body="chat-1m"),
    # event streams: how many, the ramp, chunks and the gap between them
    "s50": dict(streams=50, ramp_ms=1000, chunks=100, gap_ms=50, deadline_s=15),
    "s500": dict(streams=500, ramp_ms=1000, chunks=100, gap_ms=50, deadline_s=20),
    # memory: on a fresh process, in the first round only
    "idle5k": dict(streams=5000, ramp_ms=4000, chunks=7, gap_ms=1500, deadline_s=45, fresh=True),
    "open10k": dict(streams=10000, ramp_ms=8000, chunks=5, gap_ms=3000, deadline_s=60, fresh=True),
    "inflight": dict(connections=64, seconds=6, body="chat-1m", delay_ms=2500, fresh=True),
    "start": dict(fresh=True),
    "reload": dict(fresh=True),
    # the gateway's two lanes, with the same body but for the model's name
    "b1": dict(connections=1, seconds=3, body="chat-1k", lanes=True),
    "b64": dict(connections=64, seconds=5, body="chat-1k", lanes=True),
    "bm1": dict(connections=8, seconds=4, body="image-1m", lanes=True),
    "bs50": dict(streams=50, ramp_ms=1000, chunks=100, gap_ms=50, deadline_s=15, lanes=True),
    "bs500": dict(streams=500, ramp_ms=1000, chunks=100, gap_ms=50, deadline_s=20, lanes=True),
    # a model with one target and a group of three, with 1,000 models configured
    "r1": dict(connections=1, seconds=3, body="chat-1k", plans=True),
    "r64": dict(connections=64, seconds=5, body="chat-1k", plans=True),
}
PEER_RUNS = [run for run, options in RUNS.items() if not options.get("lanes") and not options.get("plans")]


class Peer:
    def __init__(self, name, port, key=KEY, command=None, ready="/", env=None):
        self.name, self.port, self.key, self.command, self.ready, self.env = name, port, key, command, ready, env or {}
        self.process = None
        self.url = f"http://127.0.0.1:{port}/v1/chat/completions"

    def start(self, config=None):
        command = [config if config and part.endswith("tollgate.yaml") else part for part in self.command]
        with open(f"{run_dir()}/{self.name}.log", "ab") as log:
            self.process = process.Process(command, 9111 if self.name == "tollgate" else self.port, self.ready, self.env, run_dir(), log)

    def stop(self):
        if self.process:
            self.process.stop()
            self.process = None

    def restart(self, files):
        self.stop()
        self.start()
        set_mock(chunks=5, gap_ms=1)
        for body in ("chat-1k", "stream-1k") * 4:  # what is made on first use belongs to the process at rest
            post(self, files[body])
        time.sleep(1)


def run_dir():
    return os.environ["BENCH_RUN"]


def get(url):
    with urllib.request.urlopen(url, timeout=10) as reply:
        return reply.read()


def stats(reset=False):
    return json.loads(get(f"http://127.0.0.1:9000/stats{'?reset=1' if reset else ''}"))


def set_mock(delay_ms=0, chunks=100, gap_ms=0):
    get(f"http://127.0.0.1:9000/config?delay_ms={delay_ms}&chunks={chunks}&gap_ms={gap_ms}")


def post(peer, file, key=None):
    return post_with_head(peer, file, key)[:2]


def post_with_head(peer, file, key=None):
    with open(file, "rb") as body:
        request = urllib.request.Request(peer.url, data=body.read(), headers={
            "Content-Type": "application/json", "Authorization": f"Bearer {key or peer.key}"})
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.status, reply.read(), reply.headers
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read(), refusal.headers


def peers(options):
    load, run = options.load, run_dir()
    nginx = ["nginx", "-e", f"{run}/nginx-error.log", "-c", f"{run}/nginx.conf"]
    if os.geteuid() == 0:
        nginx += ["-g", "user root;"]  # the folder may lie where nobody else may look
    found = [
        Peer("direct", 9000, "upstream-key"),
        Peer("nginx", 9101, command=nginx),
        Peer("bare", 9102, command=[f"{load}/bench-bare"], ready="/config"),
        Peer("tollgate", 9110, command=[options.tollgate, "serve", "-c", f"{HERE}/tollgate.yaml"], ready="/readyz"),
    ]
    return [p for p in found if p.name in options.peers.split(",")]


def prepare():
    """Raise the limit on files and write nginx's configuration. Returns the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (65536, hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(limit, hard)))
            break
        except (ValueError, OSError):
            pass
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    with open(f"{HERE}/nginx.conf") as template, open(f"{run_dir()}/nginx.conf", "w") as out:
        out.write(template.read().replace("@RUN@", run_dir()).replace("@NOFILE@", str(limit)))
    return limit


def check(peer, files):
    """That a peer does its work, before how fast: a fast gateway that forwards the wrong key is no gateway."""
    set_mock(chunks=5, gap_ms=20)
    stats(reset=True)
    faults = []
    plain = [name for name in files if not name.endswith(tuple(bodies.LANES))]
    for body in plain:
        status, reply = post(peer, files[body])
        if status != 200 or b'"usage"' not in reply:
            faults.append(f"{body}: status {status}")
        elif body.startswith("stream") and b"data: [DONE]" not in reply:
            faults.append("a stream without an end")
    seen = stats()
    if seen["upstream_key_seen"] != len(plain) or seen["client_key_seen"]:
        faults.append("the key was not swapped")
    if peer.name not in ("direct", "bare") and post(peer, files["chat-1k"], "sk-bench-of-nobody-at-all")[0] != 401:
        faults.append("a wrong key was not refused")
    return faults


def check_lanes(peer, files):
    """That either lane is the one it should be, and a client reads the same from both."""
    faults, said = [], {}
    for lane in bodies.LANES:
        set_mock(chunks=5, gap_ms=20)
        stats(reset=True)
        for body in ("chat-1k", "stream-1k", "image-1m"):
            status, reply, head = post_with_head(peer, files[f"{body}-{lane}"])
            if status != 200 or head.get("x-tollgate-lane") != lane:
                faults.append(f"{body}, {lane}: status {status}, lane {head.get('x-tollgate-lane')}: {reply[:300]}")
                continue
            if head.get("x-tollgate-dropped"):
                faults.append(f"{body}, {lane}: dropped {head['x-tollgate-dropped']}")
            said[lane, body] = told(reply, body.startswith("stream"))
        seen = stats()
        if seen["upstream_key_seen"] != 3 or seen["client_key_seen"] or seen["body_bytes"] < 1 << 20:
            faults.append(f"{lane}: {seen}")
    for body in ("chat-1k", "stream-1k", "image-1m"):
        one, other = (said.get((lane, body)) for lane in bodies.LANES)
        if one != other or not one or not one[0]:
            faults.append(f"{body}: {one} spliced, {other} bridged")
    return faults


def told(reply, stream):
    """What a client reads: text (the stamps of a stream's chunks taken out), stop, tokens."""
    if not stream:
        reply = json.loads(reply)
        choice = reply["choices"][0]
        return choice["message"]["content"], choice["finish_reason"], reply["usage"]["total_tokens"]
    events = [line[6:] for line in reply.decode().splitlines() if line.startswith("data: ")]
    chunks = [json.loads(event) for event in events if event != "[DONE]"]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    pieces = [choice["delta"]["content"] for choice in choices if choice["delta"].get("content")]
    stop = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    tokens = [chunk["usage"]["total_tokens"] for chunk in chunks if chunk.get("usage")]
    return [piece[17:] for piece in pieces], stop, tokens, events[-1] == "[DONE]"


def limited(run, limit):
    """Fewer streams where the limit on files is low: a gateway has two sockets a stream."""
    options = dict(RUNS[run])
    options["streams"] = min(options.get("streams", 0), (limit - 600) // 2) or options.get("connections", 0)
    return options


def measure(peer, run, options, files, mock, lane=None):
    def body(name):
        return files[f"{name}-{lane}" if lane else name]

    set_mock(options.get("delay_ms", 0), options.get("chunks", 100), options.get("gap_ms", 0))
    stats(reset=True)
    pid = peer.process.pid if peer.process else None
    rest = process.memory_kib(pid) if pid else 0
    peak = process.Peak(pid, 0.1 if options.get("fresh") else 1) if pid else None
    if peak:
        peak.start()
    if run in WRK:
        command = ["wrk", "-t1", f"-c{options['connections']}", f"-d{options['seconds']}s", "--timeout", "10s", "--latency",
                   "-s", f"{HERE}/wrk.lua", peer.url]
    else:
        command = [f"{ARGS.load}/bench-drive", peer.url, peer.key, body("stream-1k"), str(options["streams"]),
                   str(options["ramp_ms"]), str(options["deadline_s"])]
    before = (process.cpu_s(pid) if pid else 0, process.cpu_s(mock.pid), process.machine_busy_s(), time.time())
    output, client_s = process.client(command, {"BENCH_BODY": body(options.get("body", "stream-1k")), "BENCH_KEY": peer.key})
    after = (process.cpu_s(pid) if pid else 0, process.cpu_s(mock.pid), process.machine_busy_s(), time.time())
    grown = peak.stop() - rest if peak else 0
    gateway_s, mock_s, machine_s, wall = (b - a for a, b in zip(before, after))
    result = json.loads(output.split("JSON", 1)[-1])
    count = stats()["requests"] if run in WRK else result["chunks"]
    return dict(r=result, streams=options["streams"], count=count, cpu_us=gateway_s * 1e6 / count if count and pid else None,
                rest_kib=rest, grown_kib=grown, others=max(0, machine_s - gateway_s - mock_s - client_s) / wall)


def measure_start(peer, files):
    """A few starts, the middle one; then memory at rest after some calls."""
    times = []
    for _ in range(5):
        peer.stop()
        peer.start()
        times.append(peer.process.ready_ms)
    peer.restart(files)
    return dict(ready_ms=table.med(times), rest_kib=process.memory_kib(peer.process.pid))


def with_models(count):
    """The configuration with so many models more."""
    path = f"{run_dir()}/models-tollgate.yaml"
    with open(f"{HERE}/tollgate.yaml") as template, open(path, "w") as out:
        out.write(template.read() + "".join(f"  team-{i}: mock/gpt-4o-mini-{i}\n" for i in range(count)))
    return path


def measure_reload(peer):
    """POST /api/config/reload while the file changes from 1,000 models to 1,000 others."""
    path = f"{run_dir()}/reload.yaml"
    with open(f"{HERE}/tollgate.yaml") as template:
        text = template.read()

    def write(generation):
        models = "".join(f"  team-{i}-v{generation}: mock/gpt-4o-mini-{i}\n" for i in range(999))
        with open(path, "w") as out:
            out.write(text + models)

    write(0)
    peer.stop()
    peer.start(path)
    times = []
    for generation in range(1, 8):
        write(generation)
        request = urllib.request.Request(f"{ADMIN}/api/config/reload", data=b"", method="POST")
        began = time.perf_counter()
        with urllib.request.urlopen(request, timeout=30) as reply:
            reply.read()
        times.append((time.perf_counter() - began) * 1e3)
        time.sleep(0.5)
    running = json.loads(get(f"{ADMIN}/api/config"))
    if running["status"]["generation"] < 8 or "team-998-v7" not in running["config"]["models"]:
        raise RuntimeError("the reloads did not take")
    return dict(ms=table.med(times))


def say(*words):
    print(time.strftime("%H:%M:%S"), *words, file=sys.stderr, flush=True)


def about(records, limit):
    cores = len(os.sched_getaffinity(0))
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True).stdout.strip()
    nginx = ""
    if any(r["peer"] == "nginx" for r in records):
        version = subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr.strip().rpartition("/")[2]
        nginx = f"nginx {version}, "
    others = [r["others"] for r in records if "others" in r]
    rounds = len({r["round"] for r in records})
    busy = " That is too much: only CPU and memory say something." if (table.med(others) or 0) > 0.3 else ""
    return (f"Tollgate {commit or '(no commit)'}, {nginx}Pingora 0.9.1; {cores} cores ({cpu}), {rounds} round{'s' * (rounds != 1)}, medians; "
            f"files limited to {limit:,}; the rest of the machine took {table.med(others) or 0:.2f} cores (at most {max(others, default=0):.2f}). "
            f"CPU is the gateway's own.{busy}")


def in_turns(fleet, number, lanes):
    """The gateway with either lane or plan; the one that comes first comes second in the next round."""
    lanes = list(lanes)
    return [(peer, lane) for peer in fleet if peer.name == "tollgate" for lane in lanes[number % 2:] + lanes[:number % 2]]


def run_all(options, files, mock, limit, out):
    fleet = peers(options)
    records = []
    try:
        plans = any(RUNS[run].get("plans") for run in options.runs.split(","))
        for peer in list(fleet):
            if peer.command:
                peer.start(with_models(1000) if plans and peer.name == "tollgate" else None)
            faults = check(peer, files)
            if peer.name == "tollgate" and any(RUNS[run].get("lanes") for run in options.runs.split(",")):
                faults += check_lanes(peer, files)
            if faults:
                sys.exit(f"{peer.name}: " + "; ".join(faults))
        for peer in fleet:  # unmeasured
            set_mock()
            process.client(["wrk", "-t1", "-c8", "-d1s", "-s", f"{HERE}/wrk.lua", peer.url], {"BENCH_BODY": files["chat-1k"], "BENCH_KEY": peer.key})
        for number in range(options.rounds):
            order = fleet[number % len(fleet):] + fleet[:number % len(fleet)]  # not always the same neighbour
            for run in options.runs.split(","):
                fresh = RUNS[run].get("fresh")
                if fresh and number > 0:
                    continue
                lanes = bodies.LANES if RUNS[run].get("lanes") else bodies.PLANS if RUNS[run].get("plans") else None
                for peer, lane in [(peer, None) for peer in order] if not lanes else in_turns(fleet, number, lanes):
                    if fresh and not peer.command or run == "reload" and peer.name != "tollgate":
                        continue
                    if run == "start":
                        record = measure_start(peer, files)
                    elif run == "reload":
                        record = measure_reload(peer)
                        peer.restart(files)
                    else:
                        if fresh:
                            peer.restart(files)
                        record = measure(peer, run, limited(run, limit), files, mock, lane)
                    records.append(dict(peer=lane or peer.name, run=run, round=number, **record))
                    out.write(json.dumps(records[-1]) + "\n")
                    out.flush()
                    say(f"round {number + 1}", run, lane or peer.name, json.dumps({k: round(v, 2) if isinstance(v, float) else v for k, v in record.items()}))
                    time.sleep(0.3)
    finally:
        for peer in fleet:
            peer.stop()
    return records


def main():
    load = f"{ARGS.load}/bench-mock"
    for needed in ("wrk", *(["nginx"] if "nginx" in ARGS.peers.split(",") else []), load, ARGS.tollgate):
        if not shutil.which(needed):
            sys.exit(f"{needed} is missing; wrk and nginx are packages of Debian, `make bench` builds the rest")
    os.makedirs(f"{run_dir()}/nginx-body", exist_ok=True)
    limit = prepare()
    for log in ("access.log", "results.jsonl", *(f"{name}.log" for name in table.PEERS)):
        open(f"{run_dir()}/{log}", "w").close()
    files = bodies.write(f"{run_dir()}/bodies")
    mock = process.Process([load], 9000, "/stats")
    try:
        with open(f"{run_dir()}/results.jsonl", "w") as out:
            records = run_all(ARGS, files, mock, limit, out)
    finally:
        mock.stop()
    notes = about(records, limit)
    for name, markdown in (("table.txt", False), ("table.md", True)):
        with open(f"{run_dir()}/{name}", "w") as out:
            out.write(table.render(records, notes, markdown))
    print(table.render(records, notes, ARGS.markdown))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", default=",".join(PEER_RUNS), help="of " + ",".join(RUNS))
    parser.add_argument("--peers", default=",".join(table.PEERS))
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--tollgate", default="target/dist/tollgate", help="the program")
    parser.add_argument("--load", default="target/bench-load/dist", help="folder of bench-mock, bench-drive and bench-bare")
    parser.add_argument("--run-dir", default="target/bench", help="folder for logs and results")
    ARGS = parser.parse_args()
    ARGS.tollgate, ARGS.load = os.path.abspath(ARGS.tollgate), os.path.abspath(ARGS.load)
    os.environ["BENCH_RUN"] = os.path.abspath(ARGS.run_dir)
    unknown = set(ARGS.runs.split(",")) - set(RUNS)
    if unknown:
        sys.exit(f"no such run: {', '.join(unknown)}")
    main()
