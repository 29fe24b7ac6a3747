#compdef vusb
# Completion of vusb for zsh, with the names of domains, controllers and devices.
_vusb() {
    local line value description
    local -a values shown open open_shown
    for line in "${(@f)$("${words[1]}" __complete -- "${(@)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)}"; do
        value=${line%%$'\t'*} description=${line#*$'\t'}
        [[ -n $value ]] || continue
        description="$value${description:+  -- $description}"
        # These values have to continue, so no blank follows them.
        if [[ $value == *[/:=] ]]; then
            open+=("$value") open_shown+=("$description")
        else
            values+=("$value") shown+=("$description")
        fi
    done
    compadd -l -d shown -a values
    compadd -l -S '' -d open_shown -a open
    (( $#values + $#open ))
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _vusb "$@"
else
    compdef _vusb vusb
fi
