"""Commands and events, and what a catalog load does to its clients."""
