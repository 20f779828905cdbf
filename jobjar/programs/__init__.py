"""One small module a program: parse, call, print. Only these print and exit."""

import gc

# What a program loads stays: to look for garbage among it, time and again, takes a tenth of the time that a submission does.
# command.py has the collector work as soon as a program does.
gc.disable()
