"""A real directory server for a cloud's users: slapd (`tests/setup/slapd`) on 127.0.0.1, with TLS of an authority of its own."""

import contextlib
import pathlib
import signal
import socket
import subprocess
import time

from cloud import ROOT, Failure, expect, tcp_answers

SUFFIX = "dc=corp,dc=test"
MANAGER = f"cn=manager,{SUFFIX}"
MANAGER_PASSWORD = "manages & reads"

CONFIG = """
include {home}/schema/core.schema
include {home}/schema/cosine.schema
include {home}/schema/inetorgperson.schema
include {home}/schema/nis.schema
pidfile {folder}/slapd.pid
modulepath {home}/modules
moduleload back_mdb
TLSCACertificateFile {folder}/ca.pem
TLSCertificateFile {folder}/server.pem
TLSCertificateKeyFile {folder}/server.key
# A search without pages gets no more than this.
sizelimit size.soft=60 size.hard=60 size.prtotal=unlimited
database mdb
directory {folder}/data
suffix "{suffix}"
rootdn "{manager}"
rootpw "{password}"
access to attrs=userPassword by anonymous auth by * none
access to * by users read by * none
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def authority(folder, name):
    """A private certificate authority: `<name>.pem` and `<name>.key`."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", f"/CN=authority {name}", "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.pem"],
                   check=True, capture_output=True)  # fmt: skip
    return folder / f"{name}.pem"


def certificate(folder, ca, name, subject, extensions):
    """`<name>.pem` and `<name>.key` of the authority `ca`."""
    (folder / f"{name}.ext").write_text(extensions + "\n")
    subprocess.run(["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", subject,
                    "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.csr"], check=True, capture_output=True)  # fmt: skip
    subprocess.run(["openssl", "x509", "-req", "-in", f"{folder}/{name}.csr", "-CA", f"{folder}/{ca}.pem", "-CAkey", f"{folder}/{ca}.key",
                    "-CAcreateserial", "-days", "2", "-extfile", f"{folder}/{name}.ext", "-out", f"{folder}/{name}.pem"],
                   check=True, capture_output=True)  # fmt: skip


class Directory:
    def __init__(self, folder, entries):
        """`entries` is LDIF below the suffix."""
        self.folder = pathlib.Path(folder)
        (self.folder / "data").mkdir(parents=True)
        said = subprocess.run([ROOT / "tests/setup/slapd", "path"], stdout=subprocess.PIPE, text=True)
        if said.returncode:
            raise Failure("there is no slapd: run `just setup`")
        self.home = pathlib.Path(said.stdout.strip())
        self.port, self.tls_port = free_port(), free_port()
        self.ca = authority(self.folder, "ca")
        certificate(self.folder, "ca", "server", "/CN=directory", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        text = CONFIG.format(home=self.home, folder=self.folder, suffix=SUFFIX, manager=MANAGER, password=MANAGER_PASSWORD)
        self.config = self.folder / "slapd.conf"
        self.config.write_text(text)
        self.log = self.folder / "slapd.log"
        self.process = None
        top = f"dn: {SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\ndc: corp\no: Corp\n\n"
        self.tool("add", top + entries)

    @property
    def url(self):
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_url(self):
        return f"ldaps://127.0.0.1:{self.tls_port}"

    def tool(self, name, ldif):
        path = self.folder / "changes.ldif"
        path.write_text(ldif)
        done = subprocess.run([self.home / "bin/slapd", "-T", name, "-f", self.config, "-l", path], capture_output=True, text=True)
        expect(f"slap{name} succeeds", done.returncode == 0, done.stderr[-2000:])

    def change(self, ldif):
        """Applies changes while the server does not run."""
        self.stop()
        self.tool("modify", ldif)
        self.start()

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([self.home / "bin/slapd", "-h", f"{self.url} {self.tls_url}", "-f", self.config, "-d", "0"],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # fmt: skip
        deadline = time.monotonic() + 30
        while not (tcp_answers("127.0.0.1", self.port, 1) and tcp_answers("127.0.0.1", self.tls_port, 1)):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failure(f"slapd does not run: {self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(timeout=20)
            self.process = None

    @contextlib.contextmanager
    def silent(self):
        """The server takes connections and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)
