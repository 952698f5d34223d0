"""The native engine: Rust that rates as `core` says, several times as fast (decision 0100)."""
