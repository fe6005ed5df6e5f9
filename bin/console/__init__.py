"""``bin/virtumancer``: a command line over the HTTP API, and nothing but the API.

It runs wherever Python does, knows no database (but for ``token``), and decodes what
the API answers into the shapes of ``common.shapes``.
"""
