"""The HTTP server (``biosam2 serve``): `app` answers, `leases` keeps the sessions, `running` starts it.

Only a server imports what is here; it needs the extra ``serve``.
"""
