"""The OpenAPI 3.1 document, written by hand as plain data: one module a resource, put together in `document.py`."""
