"""Files of the mobile trade: TAP 3, and records of 3GPP TS 32.298; only this package knows pycrate."""
