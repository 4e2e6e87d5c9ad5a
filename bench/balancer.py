"""CPU per proxied request of trivet, nginx and HAProxy. Called by scripts/bench balancer.

Every contender is one thread pinned to the first core, with the same forwarding headers, no access log, keep-alive on both sides.
wrk (h2load for HTTP/2) and the upstream (nginx, `return 200`) share the second core. The rounds are interleaved, so that what else happens on the machine
meets all of them; only figures of one run may be compared. CPU is user + system of all processes of the contender.
"""
import argparse
import json
import os
import re
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

BODY = '{"message":"hello","items":[1,2,3],"ok":true}'
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def descendants(pid):
    parents = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as f:
                parents[int(entry)] = int(f.read().rsplit(")", 1)[1].split()[1])
        except OSError:
            pass
    found = [pid]
    for candidate in found:
        found += [child for child, parent in parents.items() if parent == candidate]
    return found


def cpu_seconds(pid):
    ticks = 0
    for process in descendants(pid):
        with open(f"/proc/{process}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_SECOND


def fetch(url, h2):
    if h2:
        result = subprocess.run(["curl", "-sSk", "-m", "1", "--http2", url], capture_output=True, text=True)
        if result.returncode:
            raise OSError(result.stderr)
        return result.stdout
    with urllib.request.urlopen(url, timeout=1, context=ssl._create_unverified_context()) as answer:
        return answer.read().decode()


class Server:
    def __init__(self, work, name, command, core, environment=None):
        self.log_path = f"{work}/{name}.log"
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(core)] + command, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, **(environment or {})})

    def wait_until_up(self, url, h2=False):
        deadline = time.monotonic() + 10
        while True:
            try:
                if fetch(url, h2) == BODY:
                    return
            except OSError as error:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    with open(self.log_path) as log:
                        sys.exit(f"no answer from {url}: {error}\n{log.read()[-2000:]}")
                time.sleep(0.05)

    def stop(self):
        for process in descendants(self.process.pid):
            try:
                os.kill(process, signal.SIGTERM)
            except ProcessLookupError:
                pass
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def write(path, text):
    with open(path, "w") as f:
        f.write(text)
    return path


def nginx(work, name, core, http):
    folders = "".join(f"{kind}_temp_path {work}/{name}-{kind};" for kind in
                      ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    conf = write(f"{work}/{name}.conf", f"""
        daemon off; worker_processes 1; pid {work}/{name}.pid; error_log /dev/stderr error;
        events {{ worker_connections 4096; }}
        http {{ access_log off; keepalive_requests 1000000000; {folders} {http} }}""")
    return Server(work, name, ["nginx", "-p", work, "-c", conf], core)


def start_nginx(work, core, upstream, port, tls, h2):
    listen = f"listen 127.0.0.1:{port}{' http2' if h2 else ''}" + (
        f" ssl; ssl_certificate {work}/tls.crt; ssl_certificate_key {work}/tls.key;" if tls else ";")
    return nginx(work, f"nginx-{port}", core, f"""
        upstream api {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 1000000000; }}
        server {{ {listen} location / {{
            proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Request-Id $request_id; }} }}""")


def start_haproxy(work, core, upstream, port, tls, h2):
    bind = f"127.0.0.1:{port}" + (f" ssl crt {work}/both.pem" if tls else "")
    bind += (" alpn h2" if tls else " proto h2") if h2 else ""
    conf = write(f"{work}/haproxy-{port}.cfg", f"""
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
frontend in
    bind {bind}
    option forwardfor
    http-request set-header X-Forwarded-Proto {'https' if tls else 'http'}
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    unique-id-format %{{+X}}o%ci%cp%Ts%rt%pid
    unique-id-header X-Request-Id
    default_backend api
backend api
    http-reuse always
    server one 127.0.0.1:{upstream}
""")
    return Server(work, f"haproxy-{port}", ["haproxy", "-db", "-f", conf], core)


def start_trivet(work, core, upstream, port, tls, h2):
    executable = os.environ.get("TRIVET_BINARY", ".build/release/trivet")
    return Server(work, f"trivet-{port}", [executable], core, {
        "MODE": "balancer", "WORKERS": "1", "LISTEN": f"127.0.0.1:{port}", "ADMIN_LISTEN": f"127.0.0.1:{free_port()}",
        "DISCOVERY": "static", "UPSTREAMS": f"127.0.0.1:{upstream}", "HEALTH_PATH": "/", "ACCESS_LOG": "off",
        "LOG_LEVEL": "warning",
        **({"TLS_CERTIFICATE": f"{work}/tls.crt", "TLS_KEY": f"{work}/tls.key"} if tls else {"TLS": "off"})})


STARTERS = {"trivet": start_trivet, "nginx": start_nginx, "haproxy": start_haproxy}


def load(case, core, connections, seconds):
    """Returns the number of requests; stops everything when one failed."""
    url = case["url"]
    if case["h2"]:
        return load_h2(url, core, connections, seconds)
    output = subprocess.run(
        ["taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url],
        capture_output=True, text=True, check=True).stdout
    failures = re.search(r"(Socket errors|Non-2xx).*", output)
    if failures:
        sys.exit(f"{url}: {failures.group(0)}")
    return int(re.search(r"(\d+) requests in", output).group(1))


def load_h2(url, core, connections, seconds):
    """As many requests at once as by HTTP/1.1, 16 of them a connection."""
    output = subprocess.run(
        ["taskset", "-c", str(core), "h2load", "-t1", f"-c{max(1, connections // 16)}", "-m16", f"-D{seconds}", url],
        capture_output=True, text=True, check=True).stdout
    result = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    if not result or result.group(3, 4, 5) != ("0", "0", "0"):
        sys.exit(f"{url}: {output}")
    return int(result.group(2))


def version(name):
    command = {"nginx": ["nginx", "-v"], "haproxy": ["haproxy", "-v"],
               "trivet": [os.environ.get("TRIVET_BINARY", ".build/release/trivet"), "--version"]}[name]
    result = subprocess.run(command, capture_output=True, text=True)
    return (result.stdout + result.stderr).splitlines()[0]


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench balancer", description=__doc__.splitlines()[0])
    parser.add_argument("--contenders", default="trivet,nginx,haproxy")
    parser.add_argument("--cases", default="plain,tls,h2", help="h2: HTTP/2 over TLS, 16 requests at once a connection")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--json", default="bench/results/raw/balancer.json", help="where the raw figures go")
    options = parser.parse_args()
    names = options.contenders.split(",")
    if unknown := [name for name in names if name not in STARTERS]:
        parser.error(f"no contender {unknown[0]}; there are {', '.join(STARTERS)}")
    kinds = options.cases.split(",")
    if unknown := [kind for kind in kinds if kind not in ("plain", "tls", "h2")]:
        parser.error(f"no case {unknown[0]}; there are plain, tls and h2")
    cores = sorted(os.sched_getaffinity(0))
    own, others = cores[0], cores[min(1, len(cores) - 1)]

    work = tempfile.mkdtemp(prefix="trivet-bench-")
    os.chmod(work, 0o755)
    servers = []
    try:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-keyout", f"{work}/tls.key", "-out", f"{work}/tls.crt"],
            check=True, capture_output=True)
        with open(f"{work}/both.pem", "w") as both:
            for part in ("tls.crt", "tls.key"):
                with open(f"{work}/{part}") as f:
                    both.write(f.read())

        upstream = free_port()
        servers.append(nginx(work, "upstream", others, f"""
            server {{ listen 127.0.0.1:{upstream}; default_type application/json; return 200 '{BODY}'; }}"""))
        servers[0].wait_until_up(f"http://127.0.0.1:{upstream}/")

        cases = []
        for kind in kinds:
            tls, h2 = kind != "plain", kind == "h2"
            for name in names:
                port = free_port()
                server = STARTERS[name](work, own, upstream, port, tls, h2)
                servers.append(server)
                url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/"
                server.wait_until_up(url, h2)
                cases.append({"contender": name, "kind": kind, "h2": h2, "url": url, "server": server, "us": [], "rps": []})
        for case in cases:
            load(case, others, options.connections, 1)

        for turn in range(options.rounds):
            for case in cases[turn % len(cases):] + cases[:turn % len(cases)]:
                pid = case["server"].process.pid
                before, begin = cpu_seconds(pid), time.monotonic()
                requests = load(case, others, options.connections, options.seconds)
                case["us"].append((cpu_seconds(pid) - before) / requests * 1e6)
                case["rps"].append(requests / (time.monotonic() - begin))
            print(f"round {turn + 1} of {options.rounds}", file=sys.stderr)
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(work, ignore_errors=True)

    print(f"CPU µs per proxied request (user + system), {options.connections} keep-alive connections, "
          f"{options.rounds} rounds of {options.seconds} s, one thread on core {own}")
    print(f"{'':10}{'':7}{'min':>8}{'median':>8}{'max':>8}{'requests/s':>12}")
    for case in cases:
        print(f"{case['contender']:10}{case['kind']:7}{min(case['us']):8.1f}"
              f"{statistics.median(case['us']):8.1f}{max(case['us']):8.1f}{statistics.median(case['rps']):12.0f}")

    os.makedirs(os.path.dirname(options.json) or ".", exist_ok=True)
    with open(options.json, "w") as f:
        json.dump({
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "cores": len(cores),
            "versions": {name: version(name) for name in names}, "connections": options.connections,
            "seconds": options.seconds,
            "cases": [{key: case[key] for key in ("contender", "kind", "us", "rps")} for case in cases],
        }, f, indent=2)


if __name__ == "__main__":
    main()
