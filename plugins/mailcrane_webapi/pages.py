"""Pages for people who try the API: an index of the methods, and a form per method. No login is needed to see them."""

from __future__ import annotations

import json
from html import escape
from typing import cast

from quart import Response, abort
from quart_trio import QuartTrio

from mailcrane.api.http import ASGIApp
from mailcrane_webapi.example import example_of
from mailcrane_webapi.methods import METHODS

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
<p>{summary}</p>
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


def make_pages() -> ASGIApp:
    """Make the application for the pages below the API's path."""
    app = QuartTrio(__name__, static_folder=None)

    @app.route("/v0/", methods=_ANY_METHOD, provide_automatic_options=False)
    async def index() -> Response:
        items = "\n".join(
            f'<li><a href="{method.name}">{method.name}</a>: {escape(method.summary)}</li>'
            for method in METHODS.values()
        )
        body = (
            "<h1>Mailcrane web API</h1>\n<p>Version 0. Each method has a form to try it;"
            f' <a href="openapi.json">openapi.json</a> describes them for programs.</p>\n<ul>\n{items}\n</ul>'
        )
        return _page("Mailcrane web API", body)

    @app.route("/v0/<name>", methods=["GET"])
    async def form(name: str) -> Response:
        method = METHODS.get(name)
        if method is None:
            abort(404)
        body = _METHOD.format(
            method=method.name,
            summary=escape(method.summary),
            example=escape(json.dumps(example_of(method.request), indent="\t")),
            files=_FILES if method.takes_files else "",
        )
        return _page(f"{method.name} - Mailcrane web API", body)

    return cast(ASGIApp, app)


def _page(title: str, body: str) -> Response:
    return Response(_PAGE.format(title=escape(title), body=body), content_type="text/html; charset=utf-8")
