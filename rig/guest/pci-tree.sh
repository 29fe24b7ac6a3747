#!/bin/busybox sh
# Lists the PCI devices of this machine, one per line: "ADDRESS VENDOR DEVICE CLASS DRIVER". DRIVER
# is "-" if there is none.
for dir in /sys/bus/pci/devices/*; do
    [ -e "$dir/vendor" ] || continue
    read -r vendor <"$dir/vendor"
    read -r device <"$dir/device"
    read -r class <"$dir/class"
    driver=-
    [ -e "$dir/driver" ] && driver=$(cd -P "$dir/driver" && echo "${PWD##*/}")
    echo "${dir##*/} $vendor $device $class $driver"
done
