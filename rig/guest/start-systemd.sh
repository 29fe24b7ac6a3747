#!/bin/busybox sh
# Starts systemd as the first process of separate namespaces, because the rig's init is the first
# process of this machine.
set -e
mkdir -p /etc/systemd/system/service.d /var/tmp /home
# There is no journal: the output of a service is written to a file with its name.
echo '[Service]
StandardOutput=append:/var/log/%p.log' >/etc/systemd/system/service.d/log.conf
# systemd mounts a new filesystem on directories that are not mount points, but /run has xenstored's
# socket.
setsid unshare --mount --uts --pid --fork sh -c '
    mount --bind /run /run
    mount -t proc proc /proc
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    container=rig exec /usr/lib/systemd/systemd --unit=multi-user.target --log-target=kmsg
' </dev/null >/var/log/systemd.log 2>&1 &
