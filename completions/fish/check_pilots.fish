# fish loads this file when Tab is first pressed after the program's name.
jobjar completion fish 2>/dev/null | source
