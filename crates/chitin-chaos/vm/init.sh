#!/bin/busybox sh
# The first process of the emulated machine: makes it one that chitin can live on, and goes on with what this life is
# for. The kernel's command line says it, as variables: `what`, a script beside this one, and what that one takes.
#
# What is said goes to the kernel's log, which is on the console before the writer goes on; so whatever is said was true
# before the machine was reset. Long things go to a second line.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/data CHITIN_DATA_DIR=/data/chitin LANG=C.UTF-8
# Where bugs are planted, if any is.
[ ! -d /points ] || export CHITIN_FAILPOINTS=/points
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup

say() { echo "<1>chitin: $*" >/dev/kmsg; }
# Standard input, as one line of this name. It is out when this returns.
tell() { { printf '%s ' "$1"; cat; echo; } >/dev/ttyS1; }
over() { say "over $*"; poweroff -f; }
# Whoever started this machine may be gone.
(sleep 280; over too late) &

# Which module needs which is another thing in each kernel: one that fails is tried again after the others.
left="$(echo /modules/*.ko)"
while [ -n "$left" ]; do
    failed=
    for module in $left; do insmod "$module" 2>/tmp/insmod || failed="$failed $module"; done
    [ "${failed# }" != "$left" ] || over "no modules $left: $(cat /tmp/insmod)"
    left="${failed# }"
done
mount -t ext4 /dev/vda /data || over no disk
stty -F /dev/ttyS1 raw -echo
ifconfig lo 127.0.0.1 up
say "boot $(cat /proc/sys/kernel/random/boot_id)"

port=7411
get() { wget -q -O - --header "Authorization: Bearer $(cat $CHITIN_DATA_DIR/admin.token)" "http://127.0.0.1:$port$1"; }
# What is handed in, under a key that may be sent again.
post() { # PATH KEY BODY
    wget -q -O - --header "Authorization: Bearer $(cat $CHITIN_DATA_DIR/admin.token)" \
        --header "Idempotency-Key: $2" --header 'Content-Type: application/json' \
        --post-data "$3" "http://127.0.0.1:$port$1"
}
. /lives/$what.sh
over
