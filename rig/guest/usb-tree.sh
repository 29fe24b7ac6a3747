#!/bin/busybox sh
# Lists the USB devices of this machine: for each a line "device NAME", then its properties, one key
# and value per line.
for dir in /sys/bus/usb/devices/*; do
    name=${dir##*/}
    case $name in *:* | '*') continue ;; esac
    echo "device $name"
    for key in idVendor idProduct speed busnum devnum bDeviceClass manufacturer product serial; do
        [ -e "$dir/$key" ] || continue
        value=
        read -r value 2>/dev/null <"$dir/$key"
        printf '%s %s\n' "$key" "$value"
    done
    (cd -P "$dir" && echo "at $PWD")
    for interface in "$dir"/*:*; do
        [ -e "$interface/driver" ] || continue
        (cd -P "$interface/driver" && echo "driver ${PWD##*/}")
    done
done
