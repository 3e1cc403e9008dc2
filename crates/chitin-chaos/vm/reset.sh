# Lives that end by a reset. Each looks first at what the one before it left, and shows it; then it takes work in, and
# says of each task that it was acknowledged, once it was.
#
# life      its number
# before    the last life that took work in; 0: none did
# how       when it ends: `recovery`, while the gateway starts; `burst`, `idle`, or right after an acknowledgement, `ack`;
#           `last`: in good order, with nothing taken in
# after     milliseconds; acknowledgements, for `ack`

reset() {
    say reset
    echo b >/proc/sysrq-trigger
    # Whatever still comes on this processor comes too late.
    sleep 100
}
# Milliseconds, as sleep takes them.
ms() { printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)); }

submit() { # KEY TAGS FIELDS HOW
    reply="$(post /v1/tasks "$1" "{\"command\":[\"/work\",\"$1\",\"$4\"],\"tags\":[\"$1\"$2]$3}")" || return 1
    id="${reply#*\"id\":\"}"
    id="${id%%\"*}"
    say "ack $1 $id"
}
ids() { get "/v1/tasks?limit=1000&tag=$1" | grep -o '"id":"[^"]*"' | cut -d '"' -f 4; }

# Everything the gateway knows, once all has ended that must end.
show() {
    until chitin ps --json --tag "ends-$before" | grep -q '"tasks":\[\]'; do sleep 0.1; done
    get '/v1/tasks?limit=1000' | tell tasks
    for id in $(ids "ends-$before"); do get "/v1/tasks/$id" | tell task; done
    # Each result of every life, as hexadecimal digits.
    for id in $(ids result); do
        { printf '%s ' "$id"; get "/v1/tasks/$id/result" | xxd -p | tr -d '\n'; } | tell result
    done
    # Where what was not synced is lost, zeros may stand.
    tr '\n\000' ',,' </data/runs | tell runs
}

# One client after the other's pattern: most tasks wait, some run.
client() {
    count=0
    while :; do
        count=$((count + 1))
        if [ $((count % 4)) = 2 ]; then
            submit "quick-$life-$1-$count" ",\"ends-$life\"" "$again" ''
        else
            submit "held-$life-$1-$count" '' ',"queue":"held"' ''
        fi || say "refused $1 $count"
        [ "$how $1 $count" != "ack 1 $after" ] || reset
    done
}
again=',"retry":{"max":3,"backoff_s":[0.2],"jitter":0}'

if [ "$how" = recovery ]; then
    chitin up &
    sleep "$(ms "$after")"
    reset
fi
chitin up --detach || over it does not start
chitin status --json | tell status
[ "$before" = 0 ] || show
say shown
if [ "$how" = last ]; then
    chitin down --kill || over down --kill failed
    say "groups $(find /sys/fs/cgroup -name 'chitin*' | wc -l)"
    umount /data || over the disk is still in use
    return
fi

# One of each kind; the key is the kind.
submit "result-$life" ",\"ends-$life\",\"result\"" '' ''
submit "far-$life" '' ',"delay_s":3600,"queue":"held"' ''
post /v1/queues/held/pause "pause-$life" '' >/dev/null || over the queue cannot be paused
submit "again-$life" ",\"ends-$life\"" "$again" long
submit "once-$life" ",\"ends-$life\"" ',"retry":{"max":0}' long
until [ -e "/tmp/begun-again-$life" ] && [ -e "/tmp/begun-once-$life" ]; do sleep 0.05; done
until chitin ps --json --state succeeded --tag "result-$life" | grep -q '"id"'; do sleep 0.05; done
say "ended result-$life"
submit "soon-$life" ",\"ends-$life\"" "$again,\"delay_s\":1.5" ''

client 1 &
first=$!
client 2 &
second=$!
if [ "$how" = idle ]; then
    sleep 0.5
    # Between two submissions or within one: what was acknowledged counts.
    kill $first $second
fi
[ "$how" = ack ] || { sleep "$(ms "$after")"; reset; }
wait
