"""Who is asking: keys, tokens of an OpenID issuer, a proxy's headers."""
