"""Catalogs tried on files of calls (`rater rate`): rated as the stream would, summed up, and compared."""
