"""The HTTP service: routes, their bodies, authorisation, and the server."""
