"""``mailcrane webapi``: lists the methods, shows what one takes, or calls it with JSON from standard input."""

from __future__ import annotations

import base64
import json
import sys
import urllib.error
import urllib.parse
import urllib.request

import click

_SECONDS = 120.0


@click.command(short_help="List, explain or call methods of the sending API.")
@click.argument("method", required=False)
@click.argument("url", required=False)
@click.option("--key", default="", help="Idempotency key of the call, so that it can be repeated safely.")
def webapi(method: str | None, url: str | None, key: str) -> None:
    """List the methods of the API; show what METHOD takes and gives; or, with the URL of a server's API that has login
    and password in it, call METHOD with JSON from standard input:

    mailcrane webapi Send http://mox%40localhost:moxmoxmox@localhost:1080/webapi/v0/ < request.json

    The answer goes to standard output. A refusal goes to standard error, and the exit code is 1."""
    from mailcrane_webapi.methods import METHODS  # noqa: PLC0415 - so that help imports little

    if method is None:
        width = max(map(len, METHODS))
        for one in METHODS.values():
            click.echo(f"{one.name.ljust(width)}  {one.summary}")
        return
    found = METHODS.get(method)
    if found is None:
        raise click.UsageError(f"there is no method {method!r}; there are: {', '.join(METHODS)}")
    if url is not None:
        _call(url, method, sys.stdin.read(), key)
        return
    from mailcrane_webapi.example import example_of  # noqa: PLC0415

    click.echo(found.summary)
    for title, kind in (("Request", found.request), ("Response", found.response)):
        click.echo(f"\n{title}:\n{json.dumps(example_of(kind), indent=2)}")


def _call(url: str, method: str, request: str, key: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise click.UsageError(f"{parts.geturl()!r} is not an http or https URL")
    if parts.username is None or parts.password is None:
        raise click.UsageError("the URL needs login and password: http://LOGIN:PASSWORD@HOST/…; write @ as %40")
    login = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password)}"
    headers = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}
    if key:
        headers["Idempotency-Key"] = key
    # The base path of the API does as well: methods are below v0/ wherever it is.
    path = parts.path.rstrip("/").removesuffix("/v0") + f"/v0/{method}"
    place = parts._replace(netloc=parts.netloc.rpartition("@")[2], path=path)
    body = urllib.parse.urlencode({"request": request}).encode()
    try:
        with urllib.request.urlopen(
            urllib.request.Request(place.geturl(), body, headers), timeout=_SECONDS
        ) as response:
            click.echo(response.read().decode(), nl=False)
    except urllib.error.HTTPError as error:
        text = error.read().decode("utf-8", "replace").strip()
        if error.headers.get_content_type() == "application/json":
            answer = json.loads(text)
            text = f"{answer['Code']}: {answer['Message']}"
        raise click.ClickException(text if text.startswith(f"{error.code} ") else f"{error.code} {text}") from None
    except OSError as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise click.ClickException(f"{place.geturl()}: {reason}") from None
