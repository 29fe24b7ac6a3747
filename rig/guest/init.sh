#!/bin/busybox sh
# The first process of every guest of the rig. The first serial port carries the kernel's log and is
# for people; the second one, or what the kernel's parameter rig_agent names, carries the agent below and is for
# the tests. (The kernel hands parameters that it does not know to its first process as variables.)
export PATH=/bin:/sbin:/usr/bin HOME=/
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /run /tmp
mount -t devpts devpts /dev/pts

# Says on the console how far this is. Only builtins of the shell: programs are slow to start.
say() {
    read -r uptime _ </proc/uptime
    echo "<5>rig: $1 after $uptime s" >/dev/kmsg
}

# The boot was quiet; from here on the console shows what USB does. Where the agent has the console for
# itself (a Xen guest has no other line) nothing but a kernel's death may write there.
agent=${rig_agent:-/dev/ttyS1}
case $agent in
/dev/hvc*) dmesg -n 1 ;;
*) dmesg -n 7 ;;
esac
say userland
while read -r module options; do
    insmod "/modules/$module" $options
done </modules/order
say "drivers loaded"

# The agent. A request is one line: "ID SECONDS COMMAND", the command escaped for printf %b.
# An answer: "@rig ID CODE LENGTH", LENGTH bytes of output, "@end ID", each on a line of its own.
# Length and number make it unambiguous, whatever the command prints.
# It is a process of its own: the first process inherits what commands leave behind, and the end of one of those
# would cut off a request that is just being read.
agent() {
    # A virtio port appears a moment after its driver.
    until [ -c "$agent" ]; do sleep 0.1; done
    exec <>"$agent" >&0
    # A virtio port is no terminal.
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
