"""The queue: what is due is leased, attempted, settled and then deferred or retired.

An attempt is two commits and what lies between: *start* (lease, attempt counted, next due time) before anything is
tried, *settle* (the outcome as the transport reported it) right after, and *finish* (retired, or due again) once the
hooks were asked. A crash between any two of them repeats neither a delivery nor an event.
"""
