#!/bin/bash
# Installs, upgrades and purges the packages in a Debian tree, and checks each state. Run in the
# tree by `cargo xtask dist-test`.
#
#   in-tree.sh OLD NEW    two folders with the packages, of an older and of this version
set -u
old=$1 new=$2
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 HOME=/tmp/home
mkdir $HOME
# apt's log and zsh need a pseudoterminal. The mount ends with the mount namespace of this test.
mount -t devpts -o newinstance,ptmxmode=0666 devpts /dev/pts
passed=0 failed=0

# check SENTENCE COMMAND...: the command succeeds.
check() {
    local sentence=$1 output
    shift
    if output=$("$@" 2>&1); then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED: %s\n  %s\n%s\n' "$sentence" "$*" "$output"
    fi
}

# gives EXPECTED COMMAND...: the command succeeds and prints exactly this.
gives() {
    local expected=$1 output
    shift
    output=$("$@" 2>&1) && [ "$output" = "$expected" ] && return
    printf 'expected:\n%s\nfound:\n%s\n' "$expected" "$output"
    return 1
}

# Paths with their types, and the contents of the files that list users, without what dpkg, apt and
# man keep about all packages.
everything() {
    find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /debs \
        -o -path /run/systemd \
        -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/cache -o -path /var/log \) -prune \
        -o ! -name 'passwd-' ! -name 'group-' ! -name 'shadow-' ! -name 'gshadow-' \
        ! -name .pwd.lock -printf '%y %m %p %l\n' | sort
    sort /etc/passwd /etc/group
}

install() { apt-get -q -y --no-install-recommends install "$1"/*.deb; }

pages_are_found_and_correct() {
    local page
    for page in 'vusb' 'vusb-device-add' '5 vusb-rules' '5 vusb-spec' '7 vusb' '8 vusb-backend' '8 vusbd'; do
        # shellcheck disable=SC2086
        man --where $page || return 1
    done
    for page in $(dpkg -L vusb vusb-backend vusbd | grep '/man/.*gz$'); do
        zcat "$page" | mandoc -T lint -W error || { echo "$page"; return 1; }
        zcat "$page" | man --local-file --warnings=w - >/dev/null 2>/tmp/warnings
        [ ! -s /tmp/warnings ] || { echo "$page"; cat /tmp/warnings; return 1; }
    done
}

# Every command of the help has a page.
every_command_has_a_page() {
    local group command
    for group in '' controller device host; do
        vusb $group --help | sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p' |
            grep -v '^help$' >/tmp/commands
        [ -s /tmp/commands ] || return 1
        while read -r command; do
            man --where "vusb${group:+-$group}-$command" >/dev/null || return 1
        done </tmp/commands
    done
}

in_bash() {
    timeout 20 bash -c '. /usr/share/bash-completion/bash_completion
        if declare -F _comp_load >/dev/null; then _comp_load vusb; else __load_completion vusb; fi
        COMP_LINE="vusb device remove web1 p" COMP_POINT=${#COMP_LINE}
        COMP_WORDS=(vusb device remove web1 p) COMP_CWORD=4
        $(complete -p vusb | sed "s/.*-F \([^ ]*\).*/\1/") vusb && echo "${COMPREPLY[@]}"'
}

in_fish() { timeout 20 fish -c 'complete -C "vusb device remove web1 p"' | cut -f1; }

# A terminal, in which Tab is pressed, and then Enter. The command only writes what it was given.
in_zsh() {
    cat >/tmp/terminal.zsh <<'END'
zmodload zsh/zpty
TERM=dumb zpty shell zsh -f -i
zpty -w shell 'PS1=; autoload -U compinit; compinit -u
vusb() { if [[ $1 == __complete ]]; then command vusb "$@"; else print -r -- "$*" >/tmp/line; fi }
echo rea\dy'
zpty -r -m shell output '*ready*'
zpty -w shell $'vusb device remove web1 p\t'
zpty -w shell 'echo do\ne'
zpty -r -m shell output '*done*'
END
    timeout 20 zsh -f /tmp/terminal.zsh
    cat /tmp/line
}

units_verify() {
    systemd-analyze verify /usr/lib/systemd/system/vusb-backend.service \
        /usr/lib/systemd/system/vusbd.service /usr/lib/systemd/system/vusbd.socket &&
        systemd-analyze security --offline=true --threshold=30 vusb-backend.service >/dev/null &&
        systemd-analyze security --offline=true --threshold=25 vusbd.service >/dev/null
}

commands_work() {
    gives "vusb $1" vusb --version && gives "vusb-backend $1" vusb-backend --version &&
        gives "vusbd $1" vusbd --version &&
        vusb models >/dev/null && vusb host list
}

# Until end_of_systemd, maintainer scripts find a running systemd, whose commands are written to
# /tmp/calls. The backend is active.
pretend_systemd() {
    mkdir -p /run/systemd/system
    dpkg-divert --quiet --local --rename --divert /usr/bin/systemctl.real --add /usr/bin/systemctl
    printf '#!/bin/sh\necho "$*" >>/tmp/calls\ncase "$*" in *is-enabled*) SYSTEMD_OFFLINE=1 exec systemctl.real "$@" ;; esac\n' \
        >/usr/bin/systemctl
    chmod 755 /usr/bin/systemctl
    : >/tmp/calls
}
end_of_systemd() {
    rm -r /run/systemd/system /usr/bin/systemctl
    dpkg-divert --quiet --local --rename --remove /usr/bin/systemctl
}
backend_was_told() { grep -E "(^| )($1)( |$).*vusb-backend" /tmp/calls; }
# `gives` cannot check this, because the exit code is 1.
backend_is_disabled() { [ "$(systemctl is-enabled vusb-backend)" = disabled ]; }
a_program_in_c_works() {
    # shellcheck disable=SC2046
    gcc -Wall -Wextra -Werror /usr/share/doc/libvusb-dev/stick.c $(pkg-config --cflags --libs vusb) -o /tmp/stick &&
        gives "hci0 (nec-xhci, 4 ports)
hci0:1" /tmp/stick sim:/tmp/c-guest /etc/hostname /tmp/c-state
}

backend_was_not_told() { ! backend_was_told "$1"; }
daemon_was_told() { grep -E "(^| )($1)( |$).*vusbd" /tmp/calls; }

# --- a fresh installation
everything >/tmp/before
check 'the older version is installed' install "$old"
version=$(dpkg-query -W -f '${source:Upstream-Version}' vusb)
check 'the commands run' commands_work "$(vusb --version | cut -d' ' -f2)"
check 'manual pages are found and correct' pages_are_found_and_correct
check 'every command has a manual page' every_command_has_a_page
check 'units verify and are confined' units_verify
check 'the backend has a user' getent passwd vusb-backend
check 'the backend is enabled' gives enabled systemctl is-enabled vusb-backend
check 'there is a group of those who may call the daemon' getent group vusb
check 'the daemon is enabled' gives enabled systemctl is-enabled vusbd.service
check 'the socket of the daemon is enabled' gives enabled systemctl is-enabled vusbd.socket
check 'the catalog explains the entries of the daemon' \
    sh -c 'journalctl --list-catalog b1f0ea613b6e4e4c9b06f572ee871ec2 | grep -q .'
check 'polkit, udev and systemd find the files of the daemon' ls \
    /usr/share/polkit-1/actions/io.github.vusb.policy /usr/lib/udev/rules.d/72-vusb-guests.rules
check 'the folder of the claims is made' systemd-tmpfiles --create vusb.conf
check 'all users can claim' gives '1777 root' stat -c '%a %U' /run/vusb/claims
check 'a simulated guest gets a device' gives 'hci0:1' vusb -q device add sim:/tmp/guest tablet
printf 'domain = "web1"\ndriver = "sim:/tmp/web1"\n[[device]]\nkind = "tablet"\nname = "pen"\n' >/tmp/web1.toml
check 'a spec is applied' vusb apply /tmp/web1.toml
check 'bash completes names' gives pen in_bash
check 'fish completes names' gives pen in_fish
check 'zsh completes names' gives 'device remove web1 pen' in_zsh

check 'a program in C is compiled and works' a_program_in_c_works

# --- an upgrade
check 'the administrator disables the backend' systemctl disable vusb-backend
mkdir -p /etc/systemd/system/vusb-backend.service.d
drop_in=/etc/systemd/system/vusb-backend.service.d/override.conf
printf '[Service]\nOOMScoreAdjust=-500\n' >$drop_in
pretend_systemd
check 'the new version is installed' install "$new"
check 'the version is new' test "$(dpkg-query -W -f '${source:Upstream-Version}' vusb)" != "$version"
check 'the running backend is not stopped' backend_was_not_told 'stop|restart|try-restart|reload-or-restart|kill'
check 'systemd reads the new unit' grep -q daemon-reload /tmp/calls
check 'the daemon is restarted' daemon_was_told 'restart|try-restart'
check 'the backend stays disabled' backend_is_disabled
check "the administrator's settings are kept" grep -q -- -500 $drop_in
check 'the program in C still works' gives 'hci0 (nec-xhci, 4 ports)
hci0:1' /tmp/stick sim:/tmp/c-guest /etc/hostname /tmp/c-state
check 'the records are kept' gives pen in_fish

# --- the same version again, and removal
check 'it is installed again' apt-get -q -y --reinstall install "$new"/*.deb
check 'the running backend is still not stopped' backend_was_not_told 'stop|restart|try-restart'
check 'the packages are removed' apt-get -q -y remove vusb vusb-backend vusbd libvusb-dev libvusb0
check 'the backend is stopped' backend_was_told stop
check 'the daemon is stopped' daemon_was_told stop
end_of_systemd
check 'the records outlive a removal' test -d /var/lib/vusb
check 'the commands are gone' test ! -e /usr/bin/vusb -a ! -e /usr/bin/vusb-backend -a ! -e /usr/bin/vusbd

# --- purge
# libvusb has nothing left to purge: apt forgets a removed package that has no configuration.
check 'the packages are purged' apt-get -q -y purge vusb vusb-backend vusbd
rm -r /etc/systemd/system/vusb-backend.service.d
everything >/tmp/after
check 'nothing is left after a purge' diff /tmp/before /tmp/after

echo "$(. /etc/os-release; echo "$PRETTY_NAME"): $passed passed, $failed failed"
[ $failed -eq 0 ]
