"""What runs once and ends: a load, an audit."""
