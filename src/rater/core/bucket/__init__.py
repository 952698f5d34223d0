"""The meaning of functions.lua: what is asked of a bucket, and the twin that answers like it."""
