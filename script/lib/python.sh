# Finding a Python that can make a virtual environment. Sourced, never run; needs terminal.sh.
# shellcheck shell=bash

# By name, the versions that the tests know first. A name on the PATH proves nothing: a pyenv shim stands there for
# versions that are not active and fails when run, so each one is asked.
PYTHON_NAMES="python3.13 python3.12 python3.11 python3.14 python3 python"

# is_recent PYTHON: it runs, and is 3.11 or newer.
is_recent() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 </dev/null
}

# can_make_venvs PYTHON: Debian ships venv and ensurepip in a package of their own.
can_make_venvs() {
    "$1" -c 'import ensurepip, venv' >/dev/null 2>&1 </dev/null
}

# make_venv FOLDER: with the first Python that can, else with uv; else say what to install.
make_venv() {
    local folder=$1 name without_venv=""
    for name in $PYTHON_NAMES; do
        is_recent "$name" || continue
        if can_make_venvs "$name"; then
            say "Making .venv with $name"
            quietly "$name -m venv" "$name" -m venv --clear "$folder"
            return
        fi
        [ -n "$without_venv" ] || without_venv=$name
    done
    if command -v uv >/dev/null 2>&1; then
        say "Making .venv with uv"
        rm -rf "$folder"
        quietly "uv venv" uv venv --seed --python '>=3.11,<3.14' "$folder"
        return
    fi
    if [ -n "$without_venv" ]; then
        local version
        version=$("$without_venv" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        die "$without_venv has no ensurepip, which makes virtual environments: on Debian and Ubuntu," \
            "apt-get install python$version-venv"
    fi
    die "needs Python 3.11 or newer, or uv: install one of them (on Debian and Ubuntu," \
        "apt-get install python3 python3-venv) and run this again"
}
