"""HTTP/2 towards clients: each stream is a client connection of its own to the session machine of `pep.http`."""
