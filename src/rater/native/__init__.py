"""The native engine: Rust that rates as `core` says, several times as fast (decision 0100).

Importing it raises ImportError where it cannot be used; the error's text is one sentence for people.
"""

from rater.native.building import unusable

if (_why := unusable()) is not None:
    raise ImportError(_why)
