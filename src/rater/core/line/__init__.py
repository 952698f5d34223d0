"""The steps of the line over a batch."""
