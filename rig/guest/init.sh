#!/bin/busybox sh
# The first process of every guest of the rig. The first serial port has the kernel's log. The
# second one, or the device in the kernel's parameter rig_agent, is used by the agent below. (The
# kernel passes unknown parameters to its first process as variables.)
export PATH=/bin:/sbin:/usr/bin HOME=/
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /run /tmp
mount -t devpts devpts /dev/pts

# Prints progress on the console. Only uses shell builtins, because programs start slowly.
log() {
    read -r uptime _ </proc/uptime
    echo "<5>rig: $1 after $uptime s" >/dev/kmsg
}

# After the quiet boot, the console shows USB messages. If the agent uses the console (a Xen guest
# has nothing else), only a kernel panic may be written there.
agent=${rig_agent:-/dev/ttyS1}
case $agent in
/dev/hvc*) dmesg -n 1 ;;
*) dmesg -n 7 ;;
esac
log userland
while read -r module options; do
    insmod "/modules/$module" $options
done </modules/order
log "drivers loaded"

# The agent. A request is one line: "ID SECONDS COMMAND", the command escaped for printf %b. A
# reply: "@rig ID CODE LENGTH", LENGTH bytes of output, "@end ID", each on a separate line. Length
# and ID make it unambiguous for any output. The agent is not the first process, because that
# inherits orphaned processes, and the end of an orphan would interrupt reading a request.
agent() {
    # A virtio port appears a moment after its driver is loaded.
    until [ -c "$agent" ]; do sleep 0.1; done
    exec <>"$agent" >&0
    # Fails for a virtio port, which is not a terminal.
    stty raw -echo 2>/dev/null
    read -r uptime _ </proc/uptime
    echo "@ready $uptime"
    while read -r id seconds command; do
        printf %b "$command" >/tmp/.command
        timeout -s KILL "$seconds" sh /tmp/.command </dev/null >/tmp/.output 2>&1
        code=$?
        printf '@rig %s %s %s\n' "$id" "$code" "$(stat -c %s /tmp/.output)"
        cat /tmp/.output
        printf '\n@end %s\n' "$id"
    done
}
agent &
wait $!
echo "the agent has ended" >/dev/kmsg
poweroff -f
