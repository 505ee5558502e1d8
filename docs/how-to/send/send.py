"""Send a message from Python, with nothing but the standard library."""

import base64
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

API = os.environ.get("MAILCRANE_API", "http://localhost:1080/webapi/v0")
LOGIN = os.environ.get("MAILCRANE_LOGIN", "mox@localhost:moxmoxmox")


class Refused(Exception):
    """The call was refused; trying again does not help."""


def call(method: str, request: dict, key: str) -> dict:
    """Call a method until it is answered; the key keeps it from being done twice."""
    body = urllib.parse.urlencode({"request": json.dumps(request)}).encode()
    headers = {
        "Authorization": "Basic " + base64.b64encode(LOGIN.encode()).decode(),
        "Idempotency-Key": key,
    }
    for wait in (1, 2, 4, 8, 16):
        seconds = wait
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{API}/{method}", body, headers), timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read().decode()
            is_json = error.headers.get_content_type() == "application/json"
            code = json.loads(text)["Code"] if is_json else ""
            if error.code == 429 or error.code >= 500 or code in {"server", "idempotencyKeyInUse"}:
                seconds = int(error.headers.get("Retry-After", wait))
            else:
                raise Refused(f"{error.code} {text}") from None
        except OSError:
            pass  # The connection was lost: the message may have been taken or not.
        time.sleep(seconds)
    raise TimeoutError(f"{method} was not answered")


if __name__ == "__main__":
    message = {
        "To": [{"Address": "you@example.org"}],
        "Subject": "Hello",
        "Text": "Hello in text.",
        "HTML": "<p>Hello in <b>HTML</b>.</p>",
        "Extra": {"order": "42"},
    }
    # Make the key where the wish to send comes up, and keep it with the wish.
    key = str(uuid.uuid4())
    answer = call("Send", message, key)
    assert call("Send", message, key) == answer  # once more: nothing is sent, the answer is the same
    for one in answer["Submissions"]:
        print(one["Address"], "is entry", one["QueueMsgID"], "of the queue")
