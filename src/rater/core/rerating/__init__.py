"""Re-rating: calls as the journal has them, rated again in order, and what is published of the difference."""
