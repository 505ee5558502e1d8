#!/bin/sh
# Send a message with a file, and do not send it twice when the connection is lost.
set -eu
api=${MAILCRANE_API:-http://localhost:1080/webapi/v0}
login=${MAILCRANE_LOGIN:-mox@localhost:moxmoxmox}

curl --silent --show-error --fail-with-body --retry 5 --retry-all-errors \
    --user "$login" \
    --header "Idempotency-Key: invoice-4711" \
    --form 'request={
        "To": [{"Name": "You", "Address": "you@example.org"}],
        "Subject": "Your invoice",
        "Text": "It is attached.",
        "Extra": {"invoice": "4711"}
    }' \
    --form 'attachedfile=@-;filename=invoice.txt;type=text/plain' \
    "$api/Send" <<END
One mail crane: 12.50
END
