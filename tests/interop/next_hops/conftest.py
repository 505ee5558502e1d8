"""Mail servers that other people wrote, on addresses of loopback, each in a folder of its own.

Postfix and microsocks are Debian's, installed. Exim and OpenSMTPD cannot be installed beside Postfix:
``.ci/mail-servers`` unpacks them into ``.ci/mail-servers.d``. Nothing below ``/etc`` is read or changed.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from msgspec import Struct

from mailcrane.tls.certificate import make_self_signed

ROOT = Path(__file__).parents[3]
UNPACKED = ROOT / ".ci/mail-servers.d"
USER, PASSWORD = "ann", "correct horse"
DOMAIN = "interop.example"
_SECONDS = 20.0


class MailServer(Struct, frozen=True):
    """A server that takes mail for `DOMAIN` and keeps it.

    Attributes:
        name: Its own, for which its certificate is.
        port: Where it takes mail for its domain, with STARTTLS.
        login_port: Where it takes mail for any domain after STARTTLS and a login; 0 where it does not.
        tls_port: The same with TLS from the start.
        ca_file: What to trust.
        read_all: Returns all that it has kept, with LF line ends.
    """

    name: str
    host: str
    port: int
    login_port: int
    tls_port: int
    ca_file: Path
    read_all: Callable[[], str]

    def read(self, wanted: str) -> str:
        """Wait until it has kept something with a text, and return all."""
        end = time.monotonic() + _SECONDS
        while wanted not in (kept := self.read_all()):
            if time.monotonic() > end:
                pytest.fail(f"{self.name} has not kept {wanted!r} but {kept!r}")
            time.sleep(0.05)
        return kept


def _wait_for(host: str, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _SECONDS
    while True:
        try:
            with socket.create_connection((host, port), 1):
                return
        except OSError:
            if time.monotonic() > end or process.poll() is not None:
                pytest.fail(log.read_text())
            time.sleep(0.05)


@contextlib.contextmanager
def _running(
    command: list[str], folder: Path, address: tuple[str, int], environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **(environment or {})})
    try:
        _wait_for(*address, process, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _folder(name: str) -> Iterator[Path]:
    """A folder that other users may pass through, with a short name: some keep sockets in it."""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _needs(*programs: str | Path) -> None:
    if os.getuid() != 0:
        pytest.skip("mail servers are started as root")
    for program in programs:
        assert shutil.which(program) is not None, f"this test needs {program}: .ci/run shows how it is installed"


def _owned(path: Path, user: str) -> Path:
    owner = pwd.getpwnam(user)
    path.mkdir(exist_ok=True)
    os.chown(path, owner.pw_uid, owner.pw_gid)
    return path


def _certificate(folder: Path, *names: str) -> Path:
    certificate, key = make_self_signed(names)
    (folder / "cert.pem").write_bytes(certificate)
    (folder / "key.pem").write_bytes(key)
    (folder / "key.pem").chmod(0o600)
    return folder / "cert.pem"


def _read_files(folder: Path) -> Callable[[], str]:
    return lambda: "".join(path.read_text() for path in sorted(folder.rglob("*")) if path.is_file())


# --- Postfix --------------------------------------------------------------------------------------------------------

_POSTFIX_MASTER = """\
{host}:2525 inet n - n - - smtpd
{host}:2526 inet n - n - - smtpd
    -o smtpd_tls_security_level=encrypt
    -o smtpd_sasl_auth_enable=yes
    -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
{host}:2527 inet n - n - - smtpd
    -o smtpd_tls_wrappermode=yes
    -o smtpd_sasl_auth_enable=yes
    -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
cleanup   unix  n - n -    0 cleanup
qmgr      unix  n - n 300  1 qmgr
rewrite   unix  - - n -    - trivial-rewrite
bounce    unix  - - n -    0 bounce
defer     unix  - - n -    0 bounce
trace     unix  - - n -    0 bounce
proxymap  unix  - - n -    - proxymap
error     unix  - - n -    - error
retry     unix  - - n -    - error
virtual   unix  - n n -    - virtual
anvil     unix  - - n -    1 anvil
tlsmgr    unix  - - n 1000? 1 tlsmgr
postlog   unix-dgram n - n - 1 postlogd
"""

_POSTFIX_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = {name}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks =
maillog_file = {folder}/maillog
maillog_file_prefixes = /tmp, /var, {root}
smtpd_peername_lookup = no
disable_dns_lookups = yes
smtpd_relay_restrictions = reject_unauth_destination
smtpd_tls_cert_file = {folder}/cert.pem
smtpd_tls_key_file = {folder}/key.pem
smtpd_tls_security_level = may
smtpd_tls_received_header = yes
smtpd_sasl_path = smtpd
smtpd_sasl_security_options = noanonymous
smtpd_sasl_local_domain = {name}
alias_maps =
alias_database =
local_recipient_maps =
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = static:all/
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
"""

_CYRUS_SMTPD = """\
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {folder}/sasldb2
mech_list: SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 PLAIN
"""


@pytest.fixture(scope="session")
def postfix() -> Iterator[MailServer]:
    """Debian's Postfix, with logins by Cyrus SASL."""
    _needs("/usr/sbin/postfix", "/usr/sbin/saslpasswd2")
    host, name = "127.0.0.21", "postfix.interop.example"
    with _folder("postfix") as folder:
        owner = pwd.getpwnam("postfix")
        for part in ("etc", "queue", "etc/sasl"):
            (folder / part).mkdir()
        for part in ("data", "mail"):
            _owned(folder / part, "postfix")
        ca_file = _certificate(folder, name, host)
        (folder / "etc/sasl/smtpd.conf").write_text(_CYRUS_SMTPD.format(folder=folder))
        saslpasswd = ["saslpasswd2", "-p", "-c", "-f", str(folder / "sasldb2"), "-u", name, USER]
        subprocess.run(saslpasswd, input=PASSWORD.encode(), check=True)
        os.chown(folder / "sasldb2", owner.pw_uid, owner.pw_gid)
        (folder / "etc/main.cf").write_text(
            _POSTFIX_MAIN.format(
                folder=folder,
                root=folder.parent,
                name=name,
                host=host,
                domain=DOMAIN,
                uid=owner.pw_uid,
                gid=owner.pw_gid,
            )
        )
        (folder / "etc/master.cf").write_text(_POSTFIX_MASTER.format(host=host))
        subprocess.run(["/usr/sbin/postfix", "-c", str(folder / "etc"), "check"], check=True)
        command = ["/usr/lib/postfix/sbin/master", "-d", "-c", str(folder / "etc")]
        with _running(command, folder, (host, 2527), {"MAIL_CONFIG": str(folder / "etc")}):
            yield MailServer(name, host, 2525, 2526, 2527, ca_file, _read_files(folder / "mail"))


# --- Exim -----------------------------------------------------------------------------------------------------------

_EXIM = """\
primary_hostname = {name}
exim_path = {program}
exim_user = Debian-exim
exim_group = Debian-exim
spool_directory = {folder}/spool
log_file_path = {folder}/spool/%slog
pid_file_path = {folder}/spool/pid
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts = *
tls_certificate = {folder}/cert.pem
tls_privatekey = {folder}/key.pem
daemon_smtp_ports = 2525 : 2526 : 2527
tls_on_connect_ports = 2527
local_interfaces = {host}
acl_smtp_rcpt = rcpt
begin acl
rcpt:
  accept authenticated = *
  deny message = login needed
       condition = ${{if !={{$received_port}}{{2525}}}}
  accept domains = {domain}
  deny message = relay not permitted
begin routers
all:
  driver = accept
  transport = maildir
begin transports
maildir:
  driver = appendfile
  maildir_format
  directory = {folder}/mail
  create_directory
  user = Debian-exim
begin retry
begin authenticators
cram:
  driver = cram_md5
  public_name = CRAM-MD5
  server_secret = ${{if eq{{$auth1}}{{{user}}}{{{password}}}fail}}
  server_set_id = $auth1
plain:
  driver = plaintext
  public_name = PLAIN
  server_condition = ${{if and{{{{eq{{$auth2}}{{{user}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
"""


@pytest.fixture(scope="session")
def exim() -> Iterator[MailServer]:
    """Debian's Exim, with logins by CRAM-MD5 and PLAIN."""
    program = UNPACKED / "usr/sbin/exim4"
    _needs(program)
    host, name = "127.0.0.22", "exim.interop.example"
    with _folder("exim") as folder:
        _owned(folder / "spool", "Debian-exim")
        mail = _owned(folder / "mail", "Debian-exim")
        ca_file = _certificate(folder, name, host)
        (folder / "key.pem").chmod(0o644)
        config = folder / "exim.conf"
        config.write_text(
            _EXIM.format(
                program=program, folder=folder, name=name, host=host, domain=DOMAIN, user=USER, password=PASSWORD
            )
        )
        with _running([str(program), "-C", str(config), "-bdf"], folder, (host, 2527)):
            yield MailServer(name, host, 2525, 2526, 2527, ca_file, _read_files(mail))


# --- OpenSMTPD ------------------------------------------------------------------------------------------------------

_OPENSMTPD = """\
pki here cert "{folder}/cert.pem"
pki here key "{folder}/key.pem"
table everybody {{ "@" = "nobody" }}
listen on {host} port 2525 tls pki here hostname {name}
action "keep" mda "/bin/cat >> {folder}/mail/all" virtual <everybody>
match from any for domain "{domain}" action "keep"
"""


@pytest.fixture(scope="session")
def opensmtpd() -> Iterator[MailServer]:
    """Debian's OpenSMTPD, which offers STARTTLS.

    The handshake fails: OpenSMTPD 6.8.0 signs in another process, and with OpenSSL 3 it loses the way to it ("missing
    private key"). So there are no logins, which it wants TLS for.
    """
    program = UNPACKED / "usr/sbin/smtpd"
    _needs(program, "/usr/libexec/opensmtpd/mail.mda")
    host, name = "127.0.0.23", "opensmtpd.interop.example"
    with _folder("opensmtpd") as folder:
        mail = _owned(folder / "mail", "nobody")
        ca_file = _certificate(folder, name, host)
        config = folder / "smtpd.conf"
        config.write_text(_OPENSMTPD.format(folder=folder, name=name, host=host, domain=DOMAIN))
        config.chmod(0o600)
        with _running([str(program), "-d", "-f", str(config)], folder, (host, 2525)):
            yield MailServer(name, host, 2525, 0, 0, ca_file, _read_files(mail))


@pytest.fixture(scope="session")
def microsocks() -> Iterator[tuple[str, int]]:
    """Debian's microsocks: a SOCKS5 proxy."""
    _needs("microsocks")
    address = ("127.0.0.24", 1080)
    with _folder("microsocks") as folder, _running(["microsocks", "-i", address[0], "-p", "1080"], folder, address):
        yield address
