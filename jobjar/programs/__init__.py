"""One small module a program: parse, call, print. Only these print and exit."""

import gc

# A program keeps what it loads. To search that for garbage again and again would take a tenth of a submission's time.
# command.py turns the collector on before the program does its work.
gc.disable()
