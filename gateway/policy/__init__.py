"""The company's rules on requests and answers. Pure."""
