#!/bin/sh
# Programs the full test run uses besides Python packages. Installs them where apt-get runs as
# root; elsewhere says what is missing and how to get it. Never fails: the tests name what they lack.
set -u

missing=""
for pair in prometheus:prometheus prometheus-alertmanager:prometheus-alertmanager \
            redis-server:redis-server chromium:chromium; do
    program=${pair%%:*}
    package=${pair##*:}
    command -v "$program" >/dev/null 2>&1 || missing="$missing $package"
done

if [ -n "$missing" ]; then
    if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
        echo "installing Debian packages:$missing"
        if apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends $missing >/dev/null; then
            # The packages start services of their own; the tests start their own on free ports.
            for service in prometheus prometheus-alertmanager redis-server; do
                command -v systemctl >/dev/null 2>&1 && systemctl stop "$service" >/dev/null 2>&1
            done
            echo "installed."
        else
            echo "apt-get could not install:$missing (their tests are named at the end of the run)"
        fi
    else
        echo "missing:$missing"
        echo "  Debian/Ubuntu: sudo apt-get install --no-install-recommends$missing"
        echo "  elsewhere: put prometheus, alertmanager, redis-server and chromium on PATH"
    fi
fi

command -v go >/dev/null 2>&1 || echo "missing: Go 1.26 or newer (the real Kubernetes control plane of the tests is built with it)"
exit 0
