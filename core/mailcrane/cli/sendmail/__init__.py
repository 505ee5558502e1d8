"""The sendmail command: takes a message as programs hand it over, and submits it to a server. Nothing is queued here.

`arguments` reads the command line, `config` the file, `message` makes the message fit, `client` speaks SMTP, `run` puts
them together and says with its exit code what came of it.
"""
