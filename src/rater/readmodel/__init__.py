"""The read model: what lists filter and sort by, followed from the topics into a database of its own."""
