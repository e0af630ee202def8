"""Authentication of callers: keys, tokens of an OpenID issuer, trusted proxies, and the one-time link."""
