#!/bin/busybox sh
# Runs systemctl in the namespaces of systemd, which does not accept clients from others.
for pid in $(pidof systemd); do
    # Skips children of systemd that have not executed another program yet.
    grep -q '^NSpid:.*\b1$' "/proc/$pid/status" &&
        exec nsenter -t "$pid" -m -p /usr/bin/systemctl "$@"
done
echo 'systemd is not running' >&2
exit 1
