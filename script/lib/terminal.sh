# Talking to the person at the terminal. Sourced, never run.
# shellcheck shell=bash

# say TEXT...: one line of progress.
say() {
    printf '%s\n' "$*" >&2
}

# die TEXT...: say why nothing goes on, and end.
die() {
    say "$(basename "$0"): $*"
    exit 1
}

# quietly WHAT COMMAND...: run a command with its output kept back; where it fails, say so and show the end of it.
quietly() {
    local what=$1 log status=0
    shift
    log=$(mktemp)
    "$@" >"$log" 2>&1 </dev/null || status=$?
    if [ "$status" -ne 0 ]; then
        say "Failed (exit code $status): $what. The end of its output:"
        tail -n 40 "$log" | sed 's/^/    /' >&2
    fi
    rm -f "$log"
    return "$status"
}
