#!/bin/busybox sh
# systemctl, where systemd is: it listens to nobody whose process it cannot see.
for pid in $(pidof systemd); do
    # Not a child of it that has no other program yet.
    grep -q '^NSpid:.*\b1$' "/proc/$pid/status" &&
        exec nsenter -t "$pid" -m -p /usr/bin/systemctl "$@"
done
echo 'systemd does not run' >&2
exit 1
