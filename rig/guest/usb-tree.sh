#!/bin/busybox sh
# What this machine's kernel knows of its USB devices: a line "device NAME" for each, then its
# properties, a key and a value on each line.
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
