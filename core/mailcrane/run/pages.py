"""The pages of a development server for people: delivered messages and caught webhooks.

What strangers wrote is escaped; a message's HTML stands in a frame without scripts and without anything from the
network. A page waits for news with the same request that programs wait with.
"""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime
from html import escape
from urllib.parse import quote

from mailcrane.http.app import Send, respond
from mailcrane.run.shown import ShownAddress, ShownMessage, ShownMessages, ShownPart, ShownWebhook, ShownWebhooks

_WAIT_SECONDS = 25

_SCRIPT = """
const live = document.body.dataset
async function watch() {
  while (live.wait) {
    try {
      const answer = await fetch(live.wait, { headers: { accept: "application/json" } })
      if (!answer.ok) throw new Error(answer.statusText)
      if ((await answer.json())[live.list].length) return location.reload()
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 2000))
    }
  }
}
for (const button of document.querySelectorAll("[data-delete]"))
  button.addEventListener("click", async () => {
    await fetch(button.dataset.delete, { method: "DELETE" })
    location.href = button.dataset.then
  })
watch()
"""

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --dim: #777; --link: #2563eb }
@media (prefers-color-scheme: dark) { :root { --dim: #aaa; --link: #8ab4ff } }
* { box-sizing: border-box }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 66rem; padding: 0 1.25rem 3rem }
a { color: var(--link); text-decoration: none } a:hover { text-decoration: underline }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: .25rem 1.25rem; padding: 1rem 0;
  border-bottom: 1px solid var(--line); margin-bottom: 1.25rem }
header b { font-size: 1.05rem } header a[aria-current] { color: inherit; font-weight: 600 }
header .end { margin-left: auto; color: var(--dim) }
h1 { font-size: 1.35rem; margin: 0 0 .75rem; overflow-wrap: anywhere }
h2 { font-size: 1rem; margin: 1.5rem 0 .5rem }
form, .actions { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; margin: 0 0 1rem }
input { font: inherit; padding: .35rem .6rem; border: 1px solid var(--line); border-radius: .4rem; min-width: 14rem;
  background: transparent; color: inherit }
button, .button { font: inherit; padding: .35rem .8rem; border: 1px solid var(--line); border-radius: .4rem;
  background: var(--soft); color: inherit; cursor: pointer }
table { border-collapse: collapse; width: 100%; table-layout: fixed }
th { text-align: left; font-weight: 600; color: var(--dim); font-size: .85rem }
th, td { padding: .5rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap }
tbody tr:hover { background: var(--soft) }
.time { width: 11.5rem; color: var(--dim); font-variant-numeric: tabular-nums } .who { width: 15rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 0 0 1rem }
dt { color: var(--dim) } dd { margin: 0; overflow-wrap: anywhere }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: .4rem; padding: .8rem; margin: 0;
  overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; font: 13px/1.5 ui-monospace, monospace }
iframe { width: 100%; height: 32rem; resize: vertical; border: 1px solid var(--line); border-radius: .4rem;
  background: #fff; color-scheme: light }
details { border: 1px solid var(--line); border-radius: .4rem; margin: 0 0 .6rem }
summary { cursor: pointer; padding: .5rem .8rem } details pre { border-width: 1px 0 0; border-radius: 0 }
.tag { display: inline-block; padding: 0 .5rem; border-radius: .4rem; background: var(--soft);
  border: 1px solid var(--line); font-weight: 600 }
.dim { color: var(--dim) } .empty { padding: 2rem 0; color: var(--dim) }
"""

_SCRIPT_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()

# The frame with a message's HTML inherits it: no scripts (its sandbox has none either), no pictures from elsewhere.
_POLICY = (
    f"default-src 'none'; script-src 'sha256-{_SCRIPT_HASH}'; style-src 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
<body data-wait="{wait}" data-list="{list}">
<header><b>Mailcrane localserve</b> {links} <span class="end">{note}</span></header>
{body}
<script>{script}</script>
</body>
</html>
"""

_SECTIONS = (("messages", "/messages/", "Messages"), ("webhooks", "/hooks/", "Webhooks"))


async def respond_page(send: Send, page: str) -> None:
    """Send a page of this module."""
    await respond(
        send,
        200,
        page,
        content_type=b"text/html; charset=utf-8",
        headers=[(b"content-security-policy", _POLICY.encode()), (b"cache-control", b"no-store")],
    )


def message_list(answer: ShownMessages, *, to: str = "", subject: str = "", root: str, query: str = "") -> str:
    """Make the page that lists messages.

    Args:
        to: What was searched for.
        subject: What was searched for.
        root: The path of the service, without a slash at the end.
        query: The search as it stands in a URL, without ``after``, ``before`` and ``timeout``.
    """
    rows = "".join(_message_row(message) for message in answer.messages)
    older = ""
    if answer.more and answer.messages:
        before = _with(query, f"before={answer.messages[-1].id}")
        older = f'<p><a href="{escape(root)}/?{escape(before)}">Older messages</a></p>'
    table = (
        '<table><thead><tr><th class="time">Received</th><th class="who">From</th><th class="who">To</th>'
        f"<th>Subject</th></tr></thead><tbody>{rows}</tbody></table>{older}"
    )
    empty = '<p class="empty">No message has arrived here yet. This page shows the next one by itself.</p>'
    if query:
        empty = '<p class="empty">No message matches.</p>'
    body = (
        f'<form><input name="to" placeholder="Recipient, whole address" aria-label="Recipient" value="{escape(to)}">'
        f'<input name="subject" placeholder="Part of the subject" aria-label="Subject" value="{escape(subject)}">'
        "<button>Search</button>"
        f'<button type="button" data-delete="{escape(root)}/" data-then="{escape(root)}/">Delete all</button></form>'
        f"{table if rows else empty}"
    )
    wait = f"{root}/?" + _with(query, f"after={answer.last_id}&limit=1&timeout={_WAIT_SECONDS}")
    return _page("Messages", "messages", body, wait=wait, wait_list="messages", note=_count(answer))


def message_page(message: ShownMessage, *, root: str) -> str:
    """Make the page of one message: its text first, its HTML in a frame of its own."""
    envelope = f"{message.reverse_path or '<>'} → {message.forward_path}" if message.forward_path else ""
    facts = [
        ("From", _addresses(message.from_)),
        ("To", _addresses(message.to)),
        ("Cc", _addresses(message.cc)),
        ("Reply-To", _addresses(message.reply_to)),
        ("Date", message.header("date") or ""),
        ("Envelope", envelope),
        ("Account", f"{message.account}, folder {message.folder}"),
    ]
    described = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts if value)
    cut = '<p class="dim">It is longer than is shown here; the raw message has all of it.</p>' if message.is_cut else ""
    text = f"<h2>Text</h2><pre>{escape(message.text)}</pre>" if message.text else ""
    html = f"<h2>HTML</h2>{_frame(message)}" if message.html else ""
    nothing = "" if text or html else '<p class="dim">There is neither text nor HTML.</p>'
    parts = "".join(_part_item(part) for part in message.attachments)
    attachments = f"<h2>Attachments</h2><ul>{parts}</ul>" if parts else ""
    fields = "\n".join(f"{name}: {' '.join(value.split())}" for name, value in message.headers)
    body = (
        f"<h1>{escape(message.subject) or '(no subject)'}</h1><dl>{described}</dl>"
        f'<div class="actions"><a class="button" href="{escape(message.raw_url)}">Raw message</a>'
        f'<button data-delete="{escape(message.url)}" data-then="{escape(root)}/">Delete</button></div>'
        f"{text}{html}{nothing}{cut}{attachments}"
        f"<h2>Header</h2><pre>{escape(fields)}</pre>"
    )
    note = f"{_instant(message.received_at)}, {_size(message.size_octets)}"
    return _page(message.subject or "(no subject)", "messages", body, note=note)


def webhook_list(answer: ShownWebhooks, *, root: str, query: str = "") -> str:
    """Make the page that lists webhooks.

    Args:
        root: The path of the service, without a slash at the end.
        query: The search as it stands in a URL, without ``after`` and ``timeout``.
    """
    calls = "".join(_webhook_item(call, is_open=index < 3) for index, call in enumerate(answer.webhooks))
    empty = '<p class="empty">No webhook has arrived yet. Send a message; this page shows what comes by itself.</p>'
    body = (
        f'<div class="actions"><button data-delete="{escape(root)}/" data-then="{escape(root)}/">Delete all</button>'
        f"</div>{calls or empty}"
    )
    wait = f"{root}/?" + _with(query, f"after={answer.last_number}&timeout={_WAIT_SECONDS}")
    note = f"{len(answer.webhooks)} kept, {answer.last_number} caught"
    return _page("Webhooks", "webhooks", body, wait=wait, wait_list="webhooks", note=note)


# --- pieces ---------------------------------------------------------------------------------------------------------


def _page(title: str, section: str, body: str, *, note: str, wait: str = "", wait_list: str = "") -> str:
    links = " ".join(
        f'<a href="{path}"{" aria-current=page" if name == section else ""}>{label}</a>'
        for name, path, label in _SECTIONS
    )
    return _PAGE.format(
        title=escape(title),
        style=_STYLE,
        wait=escape(wait),
        list=wait_list,
        links=links,
        note=escape(note),
        body=body,
        script=_SCRIPT,
    )


def _message_row(message: ShownMessage) -> str:
    subject = escape(message.subject) or "(no subject)"
    # Pictures of the HTML are no files to its reader.
    count = sum(not part.content_id for part in message.attachments)
    files = f' <span class="dim">+ {count} file{"" if count == 1 else "s"}</span>' if count else ""
    to = message.forward_path or _addresses(message.to)
    return (
        f'<tr><td class="time">{escape(_instant(message.received_at))}</td>'
        f'<td class="who">{escape(_addresses(message.from_) or message.reverse_path)}</td>'
        f'<td class="who">{escape(to)}</td>'
        f'<td><a href="{escape(message.url)}">{subject}</a>{files}</td></tr>'
    )


def _frame(message: ShownMessage) -> str:
    html = message.html
    for part in message.attachments:
        if part.content_id:
            # Pictures that came with the message; everything else stays away.
            for reference in {part.content_id, quote(part.content_id)}:
                html = html.replace(f"cid:{reference}", part.url)
    # Links open in a tab of their own, out of the sandbox: confirming an address is what people want to try.
    document = f'<!doctype html><base target="_blank">{html}'
    return (
        '<iframe title="The HTML of the message" sandbox="allow-popups allow-popups-to-escape-sandbox" '
        f'srcdoc="{escape(document)}"></iframe>'
    )


def _part_item(part: ShownPart) -> str:
    name = escape(part.file_name) or f"part {part.number}"
    about = f"{part.content_type}, {_size(part.size_octets)}"
    return f'<li><a href="{escape(part.url)}">{name}</a> <span class="dim">{escape(about)}</span></li>'


def _webhook_item(call: ShownWebhook, *, is_open: bool) -> str:
    shown = call.body if call.payload is None else json.dumps(call.payload, indent=2, ensure_ascii=False)
    header = "\n".join(f"{name}: {value}" for name, value in call.header.items())
    return (
        f"<details{' open' if is_open else ''}><summary>"
        f'<span class="dim">#{call.number} {escape(_instant(call.at))}</span> '
        f'<span class="tag">{escape(call.event) or "webhook"}</span> {escape(call.to)} '
        f'<span class="dim">{escape(call.path)}</span></summary>'
        f"<pre>{escape(header)}</pre><pre>{escape(shown)}</pre></details>"
    )


def _addresses(addresses: tuple[ShownAddress, ...]) -> str:
    return ", ".join(str(address) for address in addresses)


def _count(answer: ShownMessages) -> str:
    count = len(answer.messages)
    return f"{count}{' newest' if answer.more else ''} message{'' if count == 1 else 's'}"


def _instant(instant: datetime) -> str:
    return f"{instant.astimezone():%Y-%m-%d %H:%M:%S}"


def _size(octets: int) -> str:
    return f"{octets} octets" if octets < 1024 else f"{octets / 1024:.1f} KiB"


def _with(query: str, more: str) -> str:
    return f"{query}&{more}" if query else more
