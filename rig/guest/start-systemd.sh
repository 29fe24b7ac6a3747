#!/bin/busybox sh
# Starts systemd as the first process of namespaces of its own: the first of this machine is the rig's init.
set -e
mkdir -p /etc/systemd/system/service.d /var/tmp /home
# There is no journal: what a service says is in a file of its name.
echo '[Service]
StandardOutput=append:/var/log/%p.log' >/etc/systemd/system/service.d/log.conf
# What is no mount point, systemd mounts anew; /run has xenstored's socket.
setsid unshare --mount --uts --pid --fork sh -c '
    mount --bind /run /run
    mount -t proc proc /proc
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    container=rig exec /usr/lib/systemd/systemd --unit=multi-user.target --log-target=kmsg
' </dev/null >/var/log/systemd.log 2>&1 &
