from __future__ import annotations


def compare_life(world, transactions, events):
    return []
