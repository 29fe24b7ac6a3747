# Completion of vusb for fish, with the names of domains, controllers and devices.
function __vusb_complete
    set -l words (commandline --tokenize --cut-at-cursor --current-process)
    set -l program $words[1]
    set -e words[1]
    $program __complete -- $words (commandline --cut-at-cursor --current-token) 2>/dev/null
end
complete --command vusb --no-files --arguments '(__vusb_complete)'
