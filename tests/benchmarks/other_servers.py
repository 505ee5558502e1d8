"""Peers: other servers on loopback, in folders of their own, for measurement side by side."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from harness import Server, process, scratch, wait_for_banner

_POSTFIX_PORT = 2527
_AIOSMTPD_PORT = 2526
_HARAKA_PORT = 2528

# The services that accept and deliver; nothing of /etc/postfix is read or changed.
_MASTER_CF = """\
127.0.0.1:{port} inet n - n - 200 smtpd
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
smtp      unix  - - n -    {deliveries} smtp
anvil     unix  - - n -    1 anvil
postlog   unix-dgram n - n - 1 postlogd
"""

_MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = mail.bench.example
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
maillog_file = {folder}/maillog
maillog_file_prefixes = /tmp, /var, {root}
smtpd_peername_lookup = no
disable_dns_lookups = yes
smtpd_relay_restrictions = permit_mynetworks, reject
default_process_limit = 200
smtp_destination_concurrency_limit = 20
alias_maps =
alias_database =
local_recipient_maps =
in_flow_delay = 0
{more}
"""


@contextlib.contextmanager
def postfix(variant: str, *, sink_port: int = 0, deliveries: int = 200) -> Iterator[Server]:
    """Debian's Postfix.

    Args:
        variant: ``maildir`` delivers into one Maildir, ``queue`` keeps everything in the queue (held), ``relay``
            delivers mail for ``a1-7.example`` to 127.0.1.7, with the usual 20 connections to each; ``held relay`` does
            so after `release_postfix`.
        sink_port: For the two that relay.
        deliveries: The most ``smtp`` processes.
    """
    with scratch("postfix") as folder:
        for name in ("etc", "queue", "data", "mail"):
            (folder / name).mkdir()
        owner, nobody = pwd.getpwnam("postfix"), pwd.getpwnam("nobody")
        os.chown(folder / "data", owner.pw_uid, owner.pw_gid)
        os.chown(folder / "mail", nobody.pw_uid, nobody.pw_gid)
        if variant == "maildir":
            more = (
                f"virtual_mailbox_domains = bench.example\nvirtual_mailbox_base = {folder}/mail\n"
                f"virtual_mailbox_maps = static:bench/\nvirtual_uid_maps = static:{nobody.pw_uid}\n"
                f"virtual_gid_maps = static:{nobody.pw_gid}\n"
            )
        elif sink_port:
            hops = (f"{1 + one // 250}-{1 + one % 250}" for one in range(1000))
            lines = (f"a{hop}.example smtp:[127.0.{hop.replace('-', '.')}]:{sink_port}\n" for hop in hops)
            (folder / "etc/next_hops").write_text("".join(lines))
            more = f"transport_maps = texthash:{folder}/etc/next_hops\n"
            if variant == "held relay":
                more += "smtpd_client_restrictions = static:HOLD\n"
        else:
            more = "smtpd_client_restrictions = static:HOLD\n"
        (folder / "etc/main.cf").write_text(_MAIN_CF.format(folder=folder, root=folder.parent, more=more))
        (folder / "etc/master.cf").write_text(_MASTER_CF.format(port=_POSTFIX_PORT, deliveries=deliveries))
        subprocess.run(["/usr/sbin/postfix", "-c", str(folder / "etc"), "check"], check=True)
        command = ["/usr/lib/postfix/sbin/master", "-d", "-c", str(folder / "etc")]
        with process(command, folder / "log", dict(os.environ, MAIL_CONFIG=str(folder / "etc"))) as pid:
            wait_for_banner("127.0.0.1", _POSTFIX_PORT)
            yield Server(f"postfix {variant}", "127.0.0.1", _POSTFIX_PORT, "bench@bench.example", pid)


def release_postfix(pid: int) -> None:
    """Have a Postfix deliver what it holds, by the process id of its master."""
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    folder = next(one.decode().removeprefix("MAIL_CONFIG=") for one in environment if one.startswith(b"MAIL_CONFIG="))
    # Released entries are deferred ones; the manager is told to forget dead hosts, and to look at all that is deferred.
    subprocess.run(["/usr/sbin/postsuper", "-c", folder, "-H", "ALL"], check=True, capture_output=True)
    settings = Path(folder, "main.cf").read_text().splitlines()
    queue = next(line.partition(" = ")[2] for line in settings if line.startswith("queue_directory"))
    with socket.socket(socket.AF_UNIX) as manager:
        manager.settimeout(30)
        manager.connect(f"{queue}/public/qmgr")
        # It may close before it has read all that it was sent; postkick dies of that.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            manager.sendall(b"FAD\0")
            manager.recv(1)


@contextlib.contextmanager
def aiosmtpd() -> Iterator[Server]:
    """aiosmtpd with its Maildir handler, which syncs every message."""
    with scratch("aiosmtpd") as folder:
        handler = ["-c", "aiosmtpd.handlers.Mailbox", str(folder / "Maildir")]
        command = [sys.executable, "-m", "aiosmtpd", "-n", "-l", f"127.0.0.1:{_AIOSMTPD_PORT}", *handler]
        with process(command, Path(folder / "log")) as pid:
            wait_for_banner("127.0.0.1", _AIOSMTPD_PORT)
            yield Server("aiosmtpd maildir", "127.0.0.1", _AIOSMTPD_PORT, "bench@bench.example", pid)


_HARAKA_PLUGIN = """\
'use strict';
exports.register = function () {
  this.register_hook('mail', 'mail');
  this.register_hook('rcpt', 'rcpt');
  this.register_hook('get_mx', 'mx');
};
exports.mail = function (next, connection) { connection.relaying = true; next(); };
exports.rcpt = function (next) { next(OK); };
exports.mx = function (next, item, domain) {
  const found = /^a(\\d+)-(\\d+)\\.example$/.exec(domain);
  next(OK, { priority: 0, exchange: `127.0.${found[1]}.${found[2]}`, port: %d });
};
"""


@contextlib.contextmanager
def haraka(*, sink_port: int, deliveries: int = 200) -> Iterator[Server]:
    """Haraka from npm, in one process, delivering mail for ``a1-7.example`` to 127.0.1.7. Its queue is never synced.

    ``HARAKA_DIR`` is a folder with ``node_modules/Haraka``: ``npm install Haraka`` makes it.
    """
    installed = Path(os.environ["HARAKA_DIR"]) / "node_modules/Haraka"
    node = shutil.which("node")
    if node is None:
        raise FileNotFoundError("Haraka needs node")
    with scratch("haraka") as folder:
        for name in ("config", "plugins", "queue"):
            (folder / name).mkdir()
        for name in ("connection.ini", "smtp_forward.ini", "host_list"):
            shutil.copy(installed / "config" / name, folder / "config" / name)
        (folder / "config/smtp.ini").write_text(f"listen=127.0.0.1:{_HARAKA_PORT}\nnodes=0\ndaemonize=false\n")
        (folder / "config/plugins").write_text("bench\n")
        (folder / "config/me").write_text("mail.bench.example\n")
        (folder / "config/log.ini").write_text("[main]\nlevel=warn\n")
        (folder / "config/outbound.ini").write_text(
            f"disabled=false\nconcurrency_max={deliveries}\nenable_tls=false\nlocal_mx_ok=true\n"
        )
        (folder / "plugins/bench.js").write_text(_HARAKA_PLUGIN % sink_port)
        # It looks up a name for every client: nobody is there to answer, and no query leaves the machine.
        (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        hidden = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        command = ["unshare", "-m", "sh", "-c", hidden, str(folder / "resolv.conf")]
        command += [node, str(installed / "bin/haraka"), "-c", str(folder)]
        with process(command, folder / "log") as pid:
            wait_for_banner("127.0.0.1", _HARAKA_PORT)
            yield Server("haraka", "127.0.0.1", _HARAKA_PORT, "bench@bench.example", pid)
