#!/bin/sh
# Installs the servers and the browser that the tests use, where that is allowed. What is missing afterwards is named by
# the tests that need it; with CI=true they fail.
set -u
missing=""
command -v dovecot >/dev/null 2>&1 || [ -x /usr/sbin/dovecot ] || missing="$missing dovecot-imapd dovecot-lmtpd"
[ -x /usr/sbin/postfix ] || missing="$missing postfix"
command -v chromium >/dev/null 2>&1 || missing="$missing chromium"
ldconfig -p 2>/dev/null | grep -q libatomic.so.1 || missing="$missing libatomic1" # for the browser's driver
[ -n "$missing" ] || exit 0
command -v apt-get >/dev/null 2>&1 || { echo "not installed:$missing (no apt-get here)"; exit 0; }
as=""
if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || { echo "not installed:$missing (needs root or sudo)"; exit 0; }
    as="sudo"
fi
echo "installing:$missing"
# A service that a package would start is not wanted: the tests start their own.
$as sh -c 'apt-get -qq update && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq install -y --no-install-recommends '"$missing"' >/dev/null 2>&1' \
    || echo "could not be installed:$missing"
