"""Files become a catalog: syntax, rows, their checks, and the merge with what is loaded."""
