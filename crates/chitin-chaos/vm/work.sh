#!/bin/sh
# What tasks do: write down that they began, and say something that is long enough to be cut short.
# work KEY: ends at once. work KEY long: stands still in its first attempt.
echo "$1 $CHITIN_ATTEMPT" >>/data/runs
if [ "$2" = long ]; then
    sync /data/runs
    : >"/tmp/begun-$1"
    [ "$CHITIN_ATTEMPT" -gt 1 ] || exec sleep 100000
fi
echo "$1"
seq 500
