#!/usr/bin/env -S LC_ALL=C awk -f
# Words, lines and bytes of each file, as count_words.c counts them.
function tell() { if (name != "") print words, lines, bytes, name; words = lines = bytes = 0 }
FNR == 1 { tell(); name = FILENAME }
{ bytes += length($0) + 1; lines++; gsub(/[\v\f\r]/, " "); words += NF }
END { tell() }
