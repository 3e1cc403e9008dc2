# A life with control groups of version 2, where all controllers are ours: what the tier `cgroup2` promises, shown.
# Each line told is `NAME EXIT-CODE WORDS`; what they must be is judged outside.

told() { name="$1"; shift; echo "$*" | tr '\n' ' ' | tell "$name"; }
# The gateway's own, the instance's, and those of attempts.
groups() { find /sys/fs/cgroup -path '*/chitin-*' -type d | wc -l; }
alive() { ps -o args | grep -c "^$1"; }
own='sh -c'
inside='cd /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup) &&'

# Both of them go on: what they make again and again is made once more after it was removed.
moves() {
    rm -f /tmp/own /tmp/stray
    until [ -e /tmp/own ] && [ -e /tmp/stray ]; do sleep 0.1; done
    echo moves
}
# The kernel says that a task's group is frozen, and neither of them makes anything any more.
stands() { # ID
    until grep -q 'frozen 1' "$(find /sys/fs/cgroup -name "$1.1")/cgroup.events"; do sleep 0.1; done
    rm -f /tmp/own /tmp/stray
    sleep 0.5
    [ -e /tmp/own ] || [ -e /tmp/stray ] || echo stands
}

# The gateway is moved into this group before it starts, as a service manager would. While no attempt runs there are so
# many groups.
life() { # GROUP COUNT
    group="$1"
    export CHITIN_DATA_DIR="/data/chitin$2"
    # The one before it said that it is ready, too.
    rm -f /tmp/up
    mkdir -p "/sys/fs/cgroup$group"
    sh -c "echo 0 >/sys/fs/cgroup$group/cgroup.procs && exec chitin up" >/tmp/up &
    up=$!
    until grep -qs ready /tmp/up; do kill -0 $up || over it does not start; sleep 0.1; done
    chitin status --json | tell status
    told limits "$(chitin run -n --memory 32MB --pids 20 --cpus 0.5 -- $own "$inside cat memory.max memory.oom.group pids.max cpu.max ../cpu.weight")"
    said="$(chitin run -n --memory 32MB -- $own 'sleep 7777 & exec tail /dev/zero' 2>&1)"
    told memory $? "$(alive 'sleep 7777')" "$said"
    id="$(chitin submit -n --retries 0 --memory 32MB -- $own 'sleep 7777 & tail /dev/zero; sleep 7777')"
    chitin wait "$id" 2>/dev/null
    get "/v1/tasks/$id" | tell task
    said="$(chitin run -n --pids 5 -- $own 'for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait' 2>&1)"
    told pids $? "$said"
    id="$(chitin submit -n -- $own 'setsid sh -c "while :; do : >/tmp/stray; done" & while :; do : >/tmp/own; done')"
    until [ -e /tmp/own ] && [ -e /tmp/stray ]; do sleep 0.1; done
    chitin pause "$id" >/dev/null
    told pause $? "$(stands "$id")"
    chitin resume "$id" >/dev/null
    told resume $? "$(moves)"
    chitin pause "$id" >/dev/null
    stands "$id" >/dev/null
    # What is frozen is thawed, or it would not hear that it is to end.
    chitin cancel "$id" 2>/dev/null
    chitin wait "$id" 2>/dev/null
    told thaw $? "$(alive 'sh -c')"
    id="$(chitin submit -n -- $own 'setsid sh -c "setsid sleep 7777 & sleep 7777" & sleep 7777')"
    until [ "$(alive 'sleep 7777')" = 3 ]; do sleep 0.1; done
    chitin cancel "$id" 2>/dev/null
    chitin wait "$id" 2>/dev/null
    told cancel $? "$(alive 'sleep 7777')"
    # A group goes while the end of its attempt is committed.
    until [ "$(groups)" = "$2" ]; do sleep 0.1; done
    chitin submit -n -- $own 'setsid sleep 7777 & sleep 7777' >/dev/null
    until [ "$(alive 'sleep 7777')" = 2 ]; do sleep 0.1; done
    told running "$(groups)" "$(cat /proc/$(cat $CHITIN_DATA_DIR/gateway.pid)/cgroup)"
    chitin down --kill >/dev/null
    told down $? "$(alive 'sleep 7777')" "$(groups)" "$(alive chitin)"
    wait $up
}
life / 1
echo '+memory +pids +cpu' >/sys/fs/cgroup/cgroup.subtree_control
life /unit 2
umount /data || over the disk is still in use
