#!/bin/busybox sh
# Joins a guest's console to a line of this machine's: xen-relay GUEST LINE. Ends when the guest does.
id=$(xl domid "$1") || exit
until tty=$(xenstore-read "/local/domain/$id/console/tty") && [ -c "$tty" ]; do sleep 0.1; done
# The console becomes this process's terminal, and its end a hangup, which must not end what tidies up.
trap '' HUP
# A virtio port can be opened but once.
exec 3<>"/dev/vport0p$2" 4<>"$tty"
stty -F "$tty" raw -echo
cat <&3 >&4 &
echo $! >"/run/relay.$2"
cat <&4 >&3
kill "$(cat "/run/relay.$2")"
wait
exec 3>&-
rm "/run/relay.$2"
