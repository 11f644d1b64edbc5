"""The version of what is said between client and host. Needs no package: a client asks for it before any is there."""

# Raised when an older side could not understand a newer one.
PROTOCOL = 6
