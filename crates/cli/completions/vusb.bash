# Completion of vusb for bash, with the names of domains, controllers and devices.
_vusb() {
    local line=${COMP_LINE:0:COMP_POINT} word i
    local -a words=()
    # bash splits words at colons and equals signs, which are part of qemu:SOCKET and hci0:1.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $i -eq 0 || $line == [[:blank:]]* ]]; then
            line=${line#"${line%%[![:blank:]]*}"}
            ((i < COMP_CWORD)) || word=$line
            words+=("$word")
        else
            ((i < COMP_CWORD)) || word=$line
            words[${#words[@]} - 1]+=$word
        fi
        line=${line#"$word"}
    done
    local current=${words[${#words[@]} - 1]} head value
    # bash only replaces the text after the last colon or equals sign.
    head=${current%"${current##*[:=]}"}
    COMPREPLY=()
    while IFS=$'\t' read -r value _; do
        value=${value#"$head"}
        [[ $value == *[/:=] ]] && compopt -o nospace
        printf -v value %q "$value"
        COMPREPLY+=("$value")
    done < <("${words[0]}" __complete -- "${words[@]:1}" 2>/dev/null)
}
complete -F _vusb vusb
