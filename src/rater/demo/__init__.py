"""The demonstration: real servers, a plausible carrier, endless calls, and a window on what happens to them.

deck      libphonenumber's prefixes as a code deck (deck.csv)
prices    what a minute costs where, and how much traffic goes there
catalog   the example catalog in the form of `rater load`
lives     clients that live the life of packages before one's eyes, and what they must have in the end
calls     call records as a carrier's switches would send them
tally     what has been seen of them so far
view      the tally as a picture for the terminal
summary   the sums at the end, and whether they agree
workers   worker processes, and what they say about themselves
run       starts, feeds, follows, shows, and ends it all
"""
