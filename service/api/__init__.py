"""The HTTP service: routes, their bodies, who may call them, and the server."""
