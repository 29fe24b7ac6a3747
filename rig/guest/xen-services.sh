#!/bin/busybox sh
# Starts the services that Xen's tools need in dom0: xenstored, dom0's own entries, the guests'
# consoles, udev.
set -e
mkdir -p /var/run/xen /run/xenstored /run/xen /var/lib/xen /var/lib/xenstored /var/log/xen/console \
    /var/lock /run/udev /etc/xen
[ -e /var/run/xenstored ] || ln -s /run/xenstored /var/run/xenstored
touch /etc/xen/xl.conf
mount -t xenfs xenfs /proc/xen
bin=/usr/lib/xen-4.17/bin
$bin/xenstored --pid-file /run/xenstored.pid
until xenstore-read / >/dev/null 2>&1; do sleep 0.1; done
$bin/xen-init-dom0
$bin/xenconsoled --log=guest --log-dir=/var/log/xen/console --pid-file=/run/xenconsoled.pid
/usr/lib/systemd/systemd-udevd --daemon
