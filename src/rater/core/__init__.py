"""The rules of rating, pure: no I/O, no clock, no randomness, no environment.

Time and identity are arguments.
"""
