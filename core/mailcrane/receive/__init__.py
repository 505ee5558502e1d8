"""From the final dot to the commit: what a message becomes, and the reply that says so.

`submission` takes what an identity submits into the queue; `incoming` takes what servers hand over, into folders and,
for clients that may relay, into the queue; `assessment` merges what plugins answer. Nothing here speaks SMTP.
"""
