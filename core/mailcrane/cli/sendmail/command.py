"""``mailcrane sendmail`` among the other commands, for its help; `mailcrane.cli.main` calls `run.main` by itself."""

from __future__ import annotations

import click


@click.command(
    short_help="Submit a message from standard input.",
    context_settings={
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
        "help_option_names": ["--help"],
    },
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def sendmail(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Submit a message from standard input, as programs use `sendmail`: cron, git, mutt, PHP. Link `mailcrane` to
    `/usr/sbin/sendmail`, or write this command where a program asks for one.

    Options: `-t` also the recipients in To, Cc and Bcc; `-i` and `-oi` a line with a single dot does not end the
    message; `-f` and `-r` take the reverse-path, which counts with `keep_from`; `--` ends the options. Other options of
    sendmail are passed over.

    `/etc/mailcrane/sendmail.toml`, or the file in MAILCRANE_SENDMAIL_CONFIG, says where to submit; `mailcrane config
    describe --sendmail` explains it. Exit codes are those of sysexits.h: 75 try again later, 67 no such user, 77 the
    login is refused, 78 the file is wrong. A message that is not taken is kept in `~/mailcrane-sendmail.failures`."""
    from mailcrane.cli.sendmail.run import main  # noqa: PLC0415 - so that help imports little

    context.exit(main(arguments))
