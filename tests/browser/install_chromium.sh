#!/bin/sh
# Installs Chromium with emoji and CJK fonts from Debian's packages when this is Debian and we are root.
# Elsewhere the tests look for an installed Chromium or Playwright's own and say so when there is none.
set -eu
[ "$(id -u)" = 0 ] && grep -qsx ID=debian /etc/os-release || exit 0
missing=""
for package in chromium fonts-noto-color-emoji fonts-noto-cjk; do
    dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
# shellcheck disable=SC2086  # a list of package names
{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null; } ||
    echo "Debian's packages$missing could not be installed; tests that need them will say so." >&2
