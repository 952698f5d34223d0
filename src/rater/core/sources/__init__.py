"""A switch's own record becomes a CDR."""
