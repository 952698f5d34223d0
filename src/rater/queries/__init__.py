"""Questions about the present state, answered the same way to whoever asks (a command line, later HTTP).

Each takes connected parts and arguments and returns typed values: money in micros, volumes in counting units,
instants in milliseconds UTC. Nothing is printed and nothing is changed here.
"""
