"""One side of a call: identified, priced, matched with limits, and its transaction."""
