#!/bin/sh -f
/bin/true
