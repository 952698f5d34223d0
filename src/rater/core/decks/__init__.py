"""Carriers' decks: the cells of a sheet become rates, and what they change in a rate table."""
