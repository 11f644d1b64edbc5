"""Where the network runs: the worker's process, what it needs, and where it is."""
