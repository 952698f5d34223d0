"""`rater admin`: the HTTP API and the console. They look by queries, and change things by commands."""
