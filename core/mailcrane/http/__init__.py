"""HTTP: the server that runs registered applications, and the guarded client.

`server` accepts connections and runs hypercorn on each, `dispatch` finds the application for a request, `client` posts
to addresses that somebody else wrote.
"""
