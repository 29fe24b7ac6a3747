#!/bin/busybox sh
# Connects a guest's console with a line of this machine: xen-relay GUEST PORT, with the virtio port
# of the line. Ends with the guest.
id=$(xl domid "$1") || exit
until tty=$(xenstore-read "/local/domain/$id/console/tty") && [ -c "$tty" ]; do sleep 0.1; done
# The console becomes this process's controlling terminal, and its end sends SIGHUP, which must not
# prevent the cleanup below.
trap '' HUP
# A virtio port can only be opened once at a time.
exec 3<>"/dev/vport0p$2" 4<>"$tty"
stty -F "$tty" raw -echo
cat <&3 >&4 &
echo $! >"/run/relay.$2"
cat <&4 >&3
kill "$(cat "/run/relay.$2")"
wait
exec 3>&-
rm "/run/relay.$2"
