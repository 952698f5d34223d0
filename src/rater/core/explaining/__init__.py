"""Why a transaction is what it is, or would be (`rater explain`): as data, and in words."""
