"""What is sold: decks, rates, packages, rules; as files say it, and compiled for rating."""
