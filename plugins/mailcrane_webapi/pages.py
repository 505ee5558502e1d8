"""Pages for people who try the API: an index of the methods, and a form per method. No login is needed to see them."""

from __future__ import annotations

import json
import typing
from collections.abc import Sequence
from datetime import datetime
from html import escape
from typing import Any, cast

import msgspec
from quart import Response, abort
from quart_trio import QuartTrio

from mailcrane.api.http import ASGIApp
from mailcrane_webapi.wire import SendRequest

_PAGE = """<!doctype html>
<html>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex,nofollow">
<title>{title}</title>
<style>
body {{ font-family: sans-serif; margin: 1em auto; max-width: 60em; padding: 0 1em; }}
textarea {{ width: 100%; box-sizing: border-box; font-family: monospace; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""

_METHOD = """<h1><a href="./">Mailcrane web API</a> - {method}</h1>
<p>A call is an HTTP POST to this address, with basic authentication by an email address of the account and its
password, and with the JSON below in the form field <code>request</code>.</p>
<form id="call" method="post" enctype="multipart/form-data">
<div><label for="request">Request JSON</label></div>
<div><textarea id="request" name="request" required rows="20">{example}</textarea></div>
{files}<br>
<div><button type="submit">Call</button></div>
</form>
<br>
<div><label for="response">Response JSON</label></div>
<div><textarea id="response" rows="20" readonly></textarea></div>
<script>
document.getElementById('call').addEventListener('submit', async (event) => {{
	event.preventDefault()
	const response = document.getElementById('response')
	response.value = ''
	try {{
		const answer = await fetch(location.href, {{method: 'POST', body: new FormData(event.target)}})
		const text = await answer.text()
		try {{
			response.value = JSON.stringify(JSON.parse(text), undefined, '\\t')
		}} catch (_) {{
			response.value = text
		}}
	}} catch (error) {{
		response.value = 'Error: ' + error
	}}
}})
</script>"""

_FILES = """<div><label>Alternative files <input type="file" name="alternativefile" multiple></label></div>
<div><label>Inline files <input type="file" name="inlinefile" multiple></label></div>
<div><label>Attached files <input type="file" name="attachedfile" multiple></label></div>
"""

_ANY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def make_pages(methods: Sequence[str]) -> ASGIApp:
    """Make the application for the pages below the API's path."""
    app = QuartTrio(__name__, static_folder=None)

    @app.route("/v0/", methods=_ANY_METHOD, provide_automatic_options=False)
    async def index() -> Response:
        items = "\n".join(f'<li><a href="{escape(method)}">{escape(method)}</a></li>' for method in methods)
        return _page(
            "Mailcrane web API",
            f"<h1>Mailcrane web API</h1>\n<p>Version 0. Each method has a form to try it.</p>\n<ul>\n{items}\n</ul>",
        )

    @app.route("/v0/<method>", methods=["GET"])
    async def form(method: str) -> Response:
        if method not in methods:
            abort(404)
        files = _FILES if method == "Send" else ""
        example = json.dumps(_EXAMPLES[method], indent="\t")
        return _page(
            f"{method} - Mailcrane web API", _METHOD.format(method=escape(method), example=escape(example), files=files)
        )

    return cast(ASGIApp, app)


def example_of(kind: Any) -> Any:
    """Return a value of a type as JSON has it, with everything that may be left out filled in once."""
    choices = [choice for choice in typing.get_args(kind) if choice is not type(None)]
    origin = typing.get_origin(kind)
    if origin is list:
        return [example_of(choices[0])]
    if origin is dict:
        return {"example": example_of(choices[1])}
    if choices:
        # A union with None, or Annotated.
        return example_of(choices[0])
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return {known.encode_name: example_of(known.type) for known in msgspec.structs.fields(kind)}
    if kind is datetime:
        return "0001-01-01T00:00:00Z"
    return kind()


# A header is a list of two texts, which its type does not say.
_EXAMPLES: dict[str, Any] = {"Send": {**example_of(SendRequest), "Headers": [["", ""]]}}


def _page(title: str, body: str) -> Response:
    return Response(_PAGE.format(title=escape(title), body=body), content_type="text/html; charset=utf-8")
