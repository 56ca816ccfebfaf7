#!/usr/bin/env bash
# Ends what start-local.sh started, jobs included, and removes its folder.
set -euo pipefail

folder="${SLURM_LOCAL:-/tmp/slurm-local-$(id -u)}"
export SLURM_CONF="$folder/slurm.conf"
[ -d "$folder" ] || exit 0

end() { # PIDFILE PROGRAM
    local pid
    pid="$(cat "$1" 2>/dev/null)" && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] || return 0
    kill "$pid"
    for _ in $(seq 50); do
        [ -d "/proc/$pid" ] || return 0
        sleep 0.1
    done
    kill -KILL "$pid"
}

timeout 10 scancel --user="$(id -un)" 2>/dev/null || true
for _ in $(seq 20); do
    [ -n "$(timeout 10 squeue --noheader 2>/dev/null)" ] || break
    sleep 0.5
done
end "$folder/slurmd.pid" slurmd
end "$folder/slurmctld.pid" slurmctld
end "$folder/munge/pid" munged
rm -rf "$folder"
