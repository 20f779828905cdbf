"""One small module a program: parse, call, print. Only these print and exit."""
