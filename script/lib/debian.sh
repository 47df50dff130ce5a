# Packages of Debian and Ubuntu that tests need. Sourced, never run; needs terminal.sh.
# shellcheck shell=bash

# What each is for: prometheus brings promtool, which checks expositions, and is started by the demo, as is
# prometheus-alertmanager; faketime gives a worker a wrong
# clock; redis-server speaks TLS, which the embedded Valkey does not; redis-sentinel fails over; rabbitmq-server
# carries events over AMQP.
# shellcheck disable=SC2034  # read by script/test
TEST_PACKAGES="prometheus prometheus-alertmanager faketime redis-server redis-sentinel rabbitmq-server"

# What only the long tests need: a browser, which looks at the status page.
# shellcheck disable=SC2034
FULL_PACKAGES="chromium"

POLICY=/usr/sbin/policy-rc.d

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# missing_packages NAME...: those that are not installed.
missing_packages() {
    local name
    for name in "$@"; do
        # shellcheck disable=SC2016  # ${Status} is dpkg-query's own
        dpkg-query --show --showformat '${Status}' "$name" 2>/dev/null | grep -q '^install ok installed$' || echo "$name"
    done
}

# hold_services: no package starts its service while it is installed. free_services puts things back.
hold_services() {
    # One of ours, left by a run that was killed, is nothing to keep.
    if [ -e "$POLICY" ] && ! grep -q celeryscope "$POLICY"; then
        as_root mv "$POLICY" "$POLICY.before"
    fi
    printf '#!/bin/sh\n# celeryscope: script/test is installing packages\nexit 101\n' | as_root tee "$POLICY" >/dev/null
    as_root chmod 755 "$POLICY"
}

free_services() {
    as_root rm -f "$POLICY"
    [ ! -e "$POLICY.before" ] || as_root mv "$POLICY.before" "$POLICY"
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@"
}

# install_packages NAME...: what is not there yet. The package lists are fetched only where those at hand do not serve.
install_packages() {
    local missing status=0
    command -v apt-get >/dev/null 2>&1 || die "--install-system knows Debian and Ubuntu; here, install: $*"
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    say "Installing" "$(echo "$missing" | tr '\n' ' ')"
    trap free_services EXIT
    trap 'exit 130' INT TERM
    hold_services
    # shellcheck disable=SC2086  # package names are words
    apt_install $missing >/dev/null 2>&1 </dev/null || {
        quietly "apt-get update" as_root apt-get update
        # shellcheck disable=SC2086
        quietly "apt-get install" apt_install $missing
    } || status=$?
    free_services
    trap - EXIT INT TERM
    return "$status"
}
