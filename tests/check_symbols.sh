#!/bin/sh
# check_symbols.sh NAME OBJECT: the object's only global symbol is the function NAME.
found=$(nm --extern-only --defined-only --demangle "$2" | sed 's/^[0-9a-f]* . //; s/(.*//; s/.*:://')
[ "$found" = "$1" ] && exit 0
printf '%s defines:\n%s\nexpected only %s\n' "$2" "$found" "$1"
exit 1
