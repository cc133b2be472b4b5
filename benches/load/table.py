"""One table out of the records of a run: a row per measure, a column per peer, medians over the rounds. A second one for the lanes."""
import statistics

PEERS = ["direct", "nginx", "bare", "tollgate"]
LANES = ["splice", "bridge"]
PLANS = ["single", "group"]


def med(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def rows(records):
    """(label, digits, {peer: value}); a row without values is left out by the caller."""
    def of(run, value):
        return {p: med([value(r) for r in records if r["run"] == run and r["peer"] == p]) for p in PEERS}

    def cpu(run):
        return {**of(run, lambda r: r.get("cpu_us")), "direct": None}

    def rate(run):
        return of(run, lambda r: r["r"]["calls"] * 1e6 / r["r"]["us"])

    def added(run, *path):
        """Above the direct call of the same round."""
        def get(r):
            x = r["r"]
            for key in path:
                x = x[key]
            return x
        floor = {r["round"]: get(r) for r in records if r["run"] == run and r["peer"] == "direct"}
        return {**of(run, lambda r: get(r) - floor[r["round"]] if r["round"] in floor else None), "direct": None}

    def lost(run):
        return of(run, lambda r: r["streams"] - r["r"]["complete"])

    def per_stream(run):
        return of(run, lambda r: r["grown_kib"] / max(1, r["r"]["open_max"]) if r["peer"] != "direct" else None)

    own = lambda run, key, scale=1: of(run, lambda r: r[key] / scale if r.get(key) is not None else None)
    return [
        ("CPU per call, 1 KB, 64 connections, µs", 0, cpu("c64")),
        ("CPU per call, 1 KB, 1 connection, µs", 0, cpu("c1")),
        ("CPU per call, 1 KB, provider takes 50 ms, µs", 0, cpu("d50")),
        ("CPU per call, 100 KB, µs", 0, cpu("k100")),
        ("CPU per call, 1 MB, µs", 0, cpu("m1")),
        ("CPU per streamed chunk, 50 streams, µs", 1, cpu("s50")),
        ("CPU per streamed chunk, 500 streams, µs", 1, cpu("s500")),
        ("calls per second, 1 KB, 64 connections", 0, rate("c64")),
        ("calls per second, 100 KB, 16 connections", 0, rate("k100")),
        ("calls per second, 1 MB, 8 connections", 0, rate("m1")),
        ("added latency, 1 connection, p50, µs", 0, added("c1", "p50")),
        ("added latency, 1 connection, p99, µs", 0, added("c1", "p99")),
        ("added latency, provider takes 50 ms, p50, µs", 0, added("d50", "p50")),
        ("a chunk's way, 500 streams, p50, µs", 0, of("s500", lambda r: r["r"]["way"]["p50"])),
        ("a chunk's way, 500 streams, p99, µs", 0, of("s500", lambda r: r["r"]["way"]["p99"])),
        ("first chunk, 500 streams, p99, ms", 1, of("s500", lambda r: r["r"]["first_chunk"]["p99"] / 1e3)),
        ("memory per open stream, 5,000 at once, KiB", 1, per_stream("idle5k")),
        ("  of these streams lost", 0, lost("idle5k")),
        ("memory per open stream, 10,000 at once, KiB", 1, per_stream("open10k")),
        ("  most open at once", 0, of("open10k", lambda r: r["r"]["open_max"])),
        ("  of these streams lost", 0, lost("open10k")),
        ("memory per 1 MB call in flight, MiB", 2, of("inflight", lambda r: r["grown_kib"] / r["streams"] / 1024)),
        ("memory at rest, MiB", 1, own("start", "rest_kib", 1024)),
        ("start to ready, ms", 1, own("start", "ready_ms")),
        ("reload with 1,000 models, ms", 1, own("reload", "ms")),
        ("failed calls or streams", 0, {p: sum(failures(r) for r in records if r["peer"] == p) for p in PEERS}),
    ]


def failures(record):
    r = record.get("r", {})
    return (r["errors"] if isinstance(r.get("errors"), int) else sum(r.get("errors", {}).values()) + r.get("cut", 0)) if r else 0


def number(value, digits):
    return "-" if value is None else f"{value:,.{digits}f}"


def ratio(values, base):
    ours, theirs = values.get("tollgate"), values.get(base)
    return "-" if ours is None or theirs is None or theirs <= 0 else f"{ours / theirs:.2f}"


def lane_rows(records, lanes):
    """(label, digits, one, other): the same body in either lane of the gateway, or for either plan."""
    def of(run, value):
        return [med([value(r) for r in records if r["run"] == run and r["peer"] == lane]) for lane in lanes]

    def cpu(run):
        return of(run, lambda r: r.get("cpu_us"))

    def rate(run):
        return of(run, lambda r: r["r"]["calls"] * 1e6 / r["r"]["us"])

    failed = ("failed calls or streams", 0, [sum(failures(r) for r in records if r["peer"] == lane) for lane in lanes])
    if lanes == PLANS:
        return [
            ("CPU per call, 1 KB, 64 connections, µs", 1, cpu("r64")),
            ("CPU per call, 1 KB, 1 connection, µs", 1, cpu("r1")),
            ("calls per second, 1 KB, 64 connections", 0, rate("r64")),
            ("latency, 1 connection, p50, µs", 0, of("r1", lambda r: r["r"]["p50"])),
            failed,
        ]
    return [
        ("CPU per call, 1 KB, 64 connections, µs", 1, cpu("b64")),
        ("CPU per call, 1 KB, 1 connection, µs", 1, cpu("b1")),
        ("CPU per call, 1 MB with an image, µs", 0, cpu("bm1")),
        ("CPU per streamed chunk, 50 streams, µs", 1, cpu("bs50")),
        ("CPU per streamed chunk, 500 streams, µs", 1, cpu("bs500")),
        ("calls per second, 1 KB, 64 connections", 0, rate("b64")),
        ("calls per second, 1 MB with an image, 8 connections", 0, rate("bm1")),
        ("latency, 1 connection, p50, µs", 0, of("b1", lambda r: r["r"]["p50"])),
        ("latency, 1 connection, p99, µs", 0, of("b1", lambda r: r["r"]["p99"])),
        ("a chunk's way, 500 streams, p50, µs", 0, of("bs500", lambda r: r["r"]["way"]["p50"])),
        ("a chunk's way, 500 streams, p99, µs", 0, of("bs500", lambda r: r["r"]["way"]["p99"])),
        failed,
    ]


def lines_of(head, body, markdown):
    if markdown:
        return ["| " + " | ".join(cells) + " |" for cells in [head, ["---"] + ["---:"] * (len(head) - 1), *body]]
    widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
    return ["  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:]))]).rstrip() for row in [head, *body]]


def peer_table(records, markdown):
    peers = [p for p in PEERS if any(r["peer"] == p for r in records)]
    body = []
    for label, digits, values in rows(records):
        if any(values.get(p) is not None for p in peers):
            plain = label.startswith(("failed", "  "))
            body.append([label, *(number(values.get(p), digits) for p in peers),
                         *(["", ""] if plain else [ratio(values, "bare"), ratio(values, "nginx")])])
    return lines_of(["", *peers, "to bare", "to nginx"], body, markdown)


def lane_table(records, markdown, lanes):
    body = []
    for label, digits, (one, other) in lane_rows(records, lanes):
        if one is None or other is None:
            continue
        compared = ["", ""] if label.startswith("failed") else [number(other - one, digits), f"{other / one:.2f}" if one else "-"]
        body.append([label, number(one, digits), number(other, digits), *compared])
    return lines_of(["", *lanes, "added", "ratio"], body, markdown)


def render(records, about, markdown):
    tables = []
    if any(r["peer"] in PEERS for r in records):
        tables.append(peer_table(records, markdown))
    for lanes in (LANES, PLANS):
        if any(r["peer"] in lanes for r in records):
            tables.append(lane_table(records, markdown, lanes))
    return "\n\n".join("\n".join(lines) for lines in tables) + "\n\n" + about + "\n"
