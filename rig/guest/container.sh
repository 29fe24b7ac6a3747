#!/bin/sh
# Boots systemd of an unpacked Debian as the first process of new namespaces. Run by
# `unshare --mount --uts --ipc --pid --cgroup --fork`.
#
#   container.sh TREE SCRATCH SHARED     the tree, which stays as it is; an empty folder; the folder
#                                        that is /run/shared inside
set -e
tree=$1 scratch=$2 shared=$3
mount -t tmpfs tmpfs "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
mount -t overlay overlay "$scratch/root" \
    -o "lowerdir=$tree,upperdir=$scratch/upper,workdir=$scratch/work"
cd "$scratch/root"

# What the maintainer scripts of packages would have done.
for link in bin sbin lib lib64; do
    # Packages of Debian 12 still have files there.
    if [ -d $link ] && [ ! -L $link ]; then
        mkdir -p usr/$link
        cp -a $link/. usr/$link/
        rm -r $link
    fi
    [ -e $link ] || ln -s usr/$link $link
done
mkdir -p proc sys dev run tmp root mnt var/log usr/lib64 etc/systemd/system
loader=ld-linux-x86-64.so.2
[ -e usr/lib64/$loader ] || ln -s ../lib/x86_64-linux-gnu/$loader usr/lib64/
for applet in sh cat ls kill sleep mkdir grep id stat mv cp rm su; do
    [ -e usr/bin/$applet ] || ln -s busybox usr/bin/$applet
done
printf 'root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n' >etc/passwd
printf 'root:x:0:\nalice:x:1000:\nbob:x:1001:\n' >etc/group
echo 0123456789abcdef0123456789abcdef >etc/machine-id
# Units that would change the kernel, which this container shares with the machine.
for unit in systemd-sysctl systemd-modules-load systemd-udevd systemd-udev-trigger ldconfig \
    systemd-hwdb-update systemd-remount-fs; do
    ln -sf /dev/null etc/systemd/system/$unit.service
done

mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs tmpfs sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom; do
    : >dev/$node
    mount --bind /dev/$node dev/$node
done
mkdir dev/shm dev/pts
mount -t tmpfs -o mode=755 tmpfs run
mkdir run/shared
mount --bind "$shared" run/shared
pivot_root . mnt
umount -l /mnt
exec /usr/bin/busybox env -i container=rig PATH=/usr/bin:/usr/sbin \
    /usr/lib/systemd/systemd --unit=multi-user.target --log-target=console
