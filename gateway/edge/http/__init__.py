"""Shared by all handlers: responses, bodies, parameters, errors, origin checks."""
