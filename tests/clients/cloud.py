"""A real cloud to hold clients against: the built program in namespaces of its own, and ways to look at it from outside.

`inside()` puts the whole run into fresh network, mount and process namespaces. So a run never meets another run or the
host's own network, `/run/netns` and the process list hold nothing but what this cloud made (which makes looking for
leftovers exact), and when the run ends in any way the kernel ends every process that it started.
"""

import argparse
import base64
import contextlib
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Failure(Exception):
    """What was expected did not happen; the text says what, and what happened instead."""


def say(text):
    print(f"[{time.monotonic() - STARTED:7.1f}] {text}", flush=True)


STARTED = time.monotonic()


def expect(what, condition, seen=""):
    if not condition:
        raise Failure(f"{what}: not so{f'; seen: {seen}' if seen != '' else ''}")


def wait_for(what, probe, seconds, pause=0.2):
    """Ask `probe` until it returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {seconds} s")
        time.sleep(pause)


# -- namespaces --------------------------------------------------------------------------------------------------------
def inside():
    """Run the rest of this program in namespaces of its own. Returns in the new ones; the caller above never does."""
    if os.environ.get("SOLOSTACK_INSIDE") != "yes":
        if os.geteuid() != 0:
            raise SystemExit("clients: needs root: it makes network namespaces and starts the cloud")
        environment = {**os.environ, "SOLOSTACK_INSIDE": "yes"}
        argv = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--propagation", "private", "--mount-proc"]
        os.execvpe("unshare", [*argv, sys.executable, *sys.argv], environment)
    # Process 1 of the new namespace must reap whatever outlives its parent, as an init does.
    child = os.fork()
    if child:
        status = 1
        while True:
            pid, ended = os.wait()
            if pid == child:
                status = os.waitstatus_to_exitcode(ended)
                break
        os._exit(status if status >= 0 else 1)
    # /sys as this network namespace sees it, with the control groups put back in their place.
    groups = tempfile.mkdtemp(prefix="solostack-cgroup-")
    subprocess.run(["mount", "--rbind", "/sys/fs/cgroup", groups], check=True)
    subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)
    subprocess.run(["mount", "--move", groups, "/sys/fs/cgroup"], check=True)
    os.rmdir(groups)
    os.makedirs("/run/netns", exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run/netns"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


# -- the stock client --------------------------------------------------------------------------------------------------
class ClientError(Failure):
    """The client ended with an error; `text` is what it said."""

    def __init__(self, argv, status, text):
        super().__init__(f"`openstack {shlex.join(argv)}` ended with status {status}: {text.strip()[-1500:]}")
        self.text = text


class OpenStack:
    """`openstack ...` as a user types it. The client's modules are loaded once and every command runs in a fork of that, so a
    command costs milliseconds rather than the seconds that Python needs to start; nothing else differs."""

    def __init__(self, environment):
        import openstackclient.shell

        self.shell = openstackclient.shell
        self.environment = environment

    def __call__(self, *words, seconds=300, environment=None):
        argv = [w for word in words for w in (shlex.split(word) if isinstance(word, str) else [str(word)])]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if child == 0:
                status = 70
                with contextlib.suppress(BaseException):
                    os.dup2(out.fileno(), 1)
                    os.dup2(err.fileno(), 2)
                    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
                    for name in [n for n in os.environ if n.startswith("OS_")]:
                        del os.environ[name]
                    os.environ.update(environment or self.environment)
                    signal.alarm(seconds)
                    sys.argv = ["openstack", *argv]
                    try:
                        status = self.shell.main(argv)
                    except SystemExit as end:
                        status = end.code
                    sys.stdout.flush()
                    sys.stderr.flush()
                os._exit(status if isinstance(status, int) else 1 if status else 0)
            _, ended = os.waitpid(child, 0)
            out.seek(0), err.seek(0)
            text, errors = out.read().decode(), err.read().decode()
        status = os.waitstatus_to_exitcode(ended)
        if status:
            raise ClientError(argv, status, errors + text)
        return text.strip()

    def json(self, *words, **kwargs):
        return json.loads(self(*words, "-f json", **kwargs) or "null")


# -- the program -------------------------------------------------------------------------------------------------------
class Cloud:
    def __init__(self, binary, folder, arguments=()):
        self.binary, self.folder = pathlib.Path(binary), pathlib.Path(folder)
        self.state = self.folder / "state"
        self.log = self.folder / "serve.log"
        self.arguments = list(arguments)
        self.process = None
        self.url = None

    def start(self, seconds=120):
        """Start `solostack serve` and wait for its one line; returns how long that took."""
        began = time.monotonic()
        out_path = self.folder / "serve.out"
        with open(out_path, "wb") as out, open(self.log, "ab") as log:
            self.process = subprocess.Popen([self.binary, "serve", "--state", self.state, *self.arguments], stdout=out, stderr=log,
                                            stdin=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
        while not out_path.read_text().endswith("\n"):
            if self.process.poll() is not None:
                raise Failure(f"serve ended with status {self.process.returncode} before it was ready:\n{self.log_end()}")
            if time.monotonic() - began > seconds:
                raise Failure(f"serve was not ready within {seconds} s:\n{self.log_end()}")
            time.sleep(0.005)
        took = time.monotonic() - began
        lines = out_path.read_text().splitlines()
        expect("serve prints exactly one line, `ready <base URL>`", len(lines) == 1 and lines[0].startswith("ready https://"), lines)
        self.url = lines[0].split()[1]
        return took

    def kill(self):
        """As a power cut is to the supervisor."""
        self.process.kill()
        self.process.wait()

    def stop(self, seconds=5):
        began = time.monotonic()
        self.process.terminate()
        try:
            status = self.process.wait(timeout=seconds + 5)
        except subprocess.TimeoutExpired:
            raise Failure(f"serve did not end within {seconds + 5} s of SIGTERM") from None
        took = time.monotonic() - began
        expect(f"SIGTERM ends serve within {seconds} s with status 0", status == 0 and took <= seconds, f"status {status} after {took:.1f} s")
        return took

    def down(self):
        done = subprocess.run([self.binary, "down", "--state", self.state], capture_output=True, text=True, timeout=180)
        expect("`solostack down` succeeds", done.returncode == 0, done.stdout[-800:] + done.stderr[-2000:])

    def log_end(self, lines=15):
        """What the program had to complain about, and its last lines."""
        if not self.log.exists():
            return ""
        text = self.log.read_text(errors="replace").splitlines()
        loud = [line for line in text if " INFO " not in line and " DEBUG " not in line]
        return "\n".join([*loud[-40:], f"... and the last {lines} lines:", *(line[:300] for line in text[-lines:])])

    def sourced(self):
        """The variables that `source admin-openrc` sets, as bash sees them."""
        script = f"set -eu; source {shlex.quote(str(self.state / 'admin-openrc'))}; env -0"
        text = subprocess.run(["env", "-i", "PATH=/usr/bin:/bin", "bash", "-c", script], check=True, stdout=subprocess.PIPE, text=True).stdout
        return dict(pair.split("=", 1) for pair in text.split("\0") if pair.startswith("OS_"))

    def resident_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024

    # The APIs without a client, for what the client does not show.
    def api(self, environment):
        return Api(environment)


class Api:
    """A token and a catalogue, taken as any program would, with nothing but HTTP and JSON."""

    def __init__(self, environment):
        self.context = ssl.create_default_context(cafile=environment["OS_CACERT"])
        self.base = environment["OS_AUTH_URL"].rstrip("/")
        user = {"name": environment["OS_USERNAME"], "password": environment["OS_PASSWORD"],
                "domain": {"id": environment.get("OS_USER_DOMAIN_ID")} if environment.get("OS_USER_DOMAIN_ID") else {"name": environment.get("OS_USER_DOMAIN_NAME", "Default")}}  # fmt: skip
        project = {"name": environment["OS_PROJECT_NAME"],
                   "domain": {"id": environment.get("OS_PROJECT_DOMAIN_ID")} if environment.get("OS_PROJECT_DOMAIN_ID") else {"name": environment.get("OS_PROJECT_DOMAIN_NAME", "Default")}}  # fmt: skip
        self.login = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": {"project": project}}}
        answer = self.log_in()
        self.project_id = answer["token"]["project"]["id"]
        self.endpoints = {
            service["type"]: endpoint["url"].rstrip("/")
            for service in answer["token"]["catalog"]
            for endpoint in service["endpoints"]
            if endpoint["interface"] == "public"
        }

    def log_in(self):
        self.token = None
        status, headers, answer = self.once("POST", f"{self.base}/auth/tokens", self.login)
        expect("a token is issued for the administrator", status == 201, (status, answer))
        self.token = headers["X-Subject-Token"]
        return answer

    def call(self, method, url, body=None, headers=None):
        answer = self.once(method, url, body, headers)
        # A guest in a guest may take longer than a token lasts.
        if answer[0] == 401 and "X-Auth-Token" not in (headers or {}):
            self.log_in()
            answer = self.once(method, url, body, headers)
        return answer

    def once(self, method, url, body=None, headers=None):
        request = urllib.request.Request(url, method=method, data=None if body is None else json.dumps(body).encode())
        request.add_header("Accept", "application/json")
        if body is not None:
            request.add_header("Content-Type", "application/json")
        if self.token:
            request.add_header("X-Auth-Token", self.token)
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, context=self.context, timeout=60) as reply:
                text = reply.read()
                return reply.status, reply.headers, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            text = error.read()
            with contextlib.suppress(ValueError):
                text = json.loads(text)
            return error.code, error.headers, text

    def get(self, service, path, **headers):
        status, _, answer = self.call("GET", self.endpoints[service] + path, headers=headers)
        expect(f"GET {service}{path} answers 200", status == 200, (status, answer))
        return answer


# -- what is on the host -----------------------------------------------------------------------------------------------
def output(*argv):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout


def namespaces():
    return sorted(row["name"] for row in json.loads(output("ip", "-j", "netns", "list") or "[]"))


def links(namespace=None):
    prefix = ["ip", "-n", namespace] if namespace else ["ip"]
    return sorted(row["ifname"] for row in json.loads(output(*prefix, "-j", "link", "show")) if row["ifname"] != "lo")


def taps():
    """Every tap in every namespace, as namespace/name."""
    found = []
    for namespace in [None, *namespaces()]:
        prefix = ["ip", "-n", namespace] if namespace else ["ip"]
        for row in json.loads(output(*prefix, "-j", "-d", "link", "show")):
            if row.get("linkinfo", {}).get("info_kind") == "tun":
                found.append(f"{namespace or 'host'}/{row['ifname']}")
    return sorted(found)


def rules():
    """All nftables rules of all namespaces as text, without handles and counters, so that two moments can be compared."""
    text = []
    for namespace in [None, *namespaces()]:
        prefix = ["ip", "netns", "exec", namespace] if namespace else []
        text += [f"{namespace or 'host'}: {line}" for line in output(*prefix, "nft", "-s", "list", "ruleset").splitlines()]
    return text


def processes():
    """The command lines of everything in this process namespace but us."""
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        if pid in (1, os.getpid()):
            continue
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            if (folder / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                continue
            found[pid] = b" ".join(words).decode(errors="replace")
    return found


def files_naming(folder, text):
    return sorted(str(p) for p in pathlib.Path(folder).rglob("*") if text in p.name)


def used_bytes(folder):
    return sum(p.stat().st_blocks * 512 for p in pathlib.Path(folder).rglob("*") if p.is_file() and not p.is_symlink())


def tcp_answers(address, port, seconds):
    with socket.socket() as attempt:
        attempt.settimeout(seconds)
        try:
            attempt.connect((address, port))
            return True
        except OSError:
            return False


class Ssh:
    def __init__(self, user, address, key):
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "IdentitiesOnly=yes", "BatchMode=yes",
                   "ConnectTimeout=30", "ServerAliveInterval=0"]  # fmt: skip
        self.argv = ["ssh", "-i", str(key), *(w for o in options for w in ("-o", o)), f"{user}@{address}"]

    def __call__(self, command, seconds=90):
        done = subprocess.run([*self.argv, command], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=seconds)
        if done.returncode:
            raise Failure(f"`{command}` in the guest ended with status {done.returncode}: {done.stderr.strip()}")
        return done.stdout.strip()

    def answers(self):
        with contextlib.suppress(Failure, subprocess.TimeoutExpired):
            return self("echo yes", seconds=40) == "yes"
        return False

    def session(self):
        """A login that stays open: `say(line)` sends a line and returns what comes back."""
        return Session(self.argv)


class Session:
    def __init__(self, argv):
        self.process = subprocess.Popen([*argv, "while read -r line; do echo \"got $line\"; done"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1)  # fmt: skip

    def say(self, line, seconds=30):
        def late(*_):
            raise Failure(f"the open ssh session did not answer within {seconds} s")

        previous = signal.signal(signal.SIGALRM, late)
        signal.alarm(seconds)
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            return self.process.stdout.readline().strip()
        except BrokenPipeError:
            raise Failure("the open ssh session was closed") from None
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, previous)

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=30)


def guest_image(name="tiny"):
    return pathlib.Path(output(str(ROOT / "tests/guests/guests.py"), "path", name).strip())


def encode(text):
    return base64.b64encode(text.encode()).decode()


# -- the scripts -------------------------------------------------------------------------------------------------------
def entered(parser):
    """The words of the command line; from here on in namespaces of its own, and no authority of the host's is believed."""
    args = parser.parse_args()
    inside()
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        os.environ.pop(name, None)
    return args


def script(doc, name, tell, prepare=lambda folder, ending: ([], ())):
    """All of a script that takes a program and `--keep`, and tells its story of a cloud with the `fake` driver.

    `prepare(folder, ending)` gives more words for `serve`, and what `tell(cloud, folder, ...)` is called with besides; what it
    leaves with `ending` (a contextlib.ExitStack) is undone at the end.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--keep", action="store_true")
    args = entered(parser)
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"solostack-{name}-"))
    cloud, status = None, 1
    with contextlib.ExitStack() as ending:
        try:
            words, things = prepare(folder, ending)
            cloud = Cloud(args.program.resolve(), folder, ["--driver", "fake", *words])
            tell(cloud, folder, *things)
            say("all of it held")
            status = 0
        except Failure as failure:
            say(f"FAILED: {failure}")
        finally:
            if status and cloud:
                print(f"\n--- end of {cloud.log}\n{cloud.log_end()}\nkept: {folder}", file=sys.stderr)
            if cloud and cloud.process and cloud.process.poll() is None:
                os.kill(cloud.process.pid, signal.SIGKILL)
    if not args.keep and not status:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(status)
