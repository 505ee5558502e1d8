"""The sending API over HTTP: JSON in a form field, basic authentication, version 0.

`plugin` registers it, `app` routes requests, `form` reads bodies, `wire` has the JSON types, `send` carries the method
out, `pages` shows a test form per method.
"""
