"""The process that rates."""
