"""The native engine: rates as core says, several times as fast; and what the two have in common."""
