"""The version of Job Jar."""

VERSION = "0.1.0"
