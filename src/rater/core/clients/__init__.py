"""Whose money it is: a client's state, how it changes, and what rating reads of it."""
