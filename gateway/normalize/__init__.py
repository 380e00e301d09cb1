"""Bytes in, values out: what a raw message says. Nothing in this package does I/O or reads the clock."""
