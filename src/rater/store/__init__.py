"""The store: what every client has used, in Redis, changed only by one function library (functions.lua)."""
