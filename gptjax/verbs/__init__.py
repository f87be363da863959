"""The verbs of the command line: each parses its arguments, calls one function, and prints."""
