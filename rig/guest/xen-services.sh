#!/bin/busybox sh
# Starts what Xen's tools need in dom0: the store, the record of dom0 itself, the guests' consoles.
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
