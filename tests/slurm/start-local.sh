#!/usr/bin/env bash
# A Slurm of one node on this machine, for tests: munged, slurmctld and slurmd, all of the calling user, all in one folder.
#
#     apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge
#     eval "$(tests/slurm/start-local.sh)"      # starts what does not run yet; sets SLURM_CONF
#     tests/slurm/stop-local.sh
#
# The folder is SLURM_LOCAL, by default /tmp/slurm-local-UID. Nothing of the system's own configuration is read or changed,
# and nothing listens beyond 127.0.0.1. Ports and cores: SLURM_LOCAL_PORT (and the one after it), SLURM_LOCAL_CPUS.
set -euo pipefail

folder="${SLURM_LOCAL:-/tmp/slurm-local-$(id -u)}"
port="${SLURM_LOCAL_PORT:-26817}"
# nproc heeds OMP_NUM_THREADS, which says nothing of how many jobs the node may run
cpus="${SLURM_LOCAL_CPUS:-$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)}"
host="$(hostname -s)"
export PATH="$PATH:/usr/sbin:/sbin"
export SLURM_CONF="$folder/slurm.conf"

for program in munged slurmctld slurmd sbatch; do
    command -v "$program" >/dev/null || { echo "no $program: install slurmctld, slurmd, slurm-client and munge" >&2; exit 1; }
done

mkdir -p "$folder/munge" "$folder/state" "$folder/spool"
chmod 755 "$folder" "$folder/munge" # munged wants its socket reachable, and its folders unwritable for others

runs() { # PIDFILE PROGRAM: whether that process is alive and is that program
    local pid
    pid="$(cat "$1" 2>/dev/null)" && [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ]
}

if ! runs "$folder/munge/pid" munged; then
    key="$folder/munge/key"
    [ -s "$key" ] || (umask 077 && head -c 1024 /dev/urandom >"$key")
    # --force: a folder below /tmp is less safe than it would like
    munged --force --key-file="$key" --socket="$folder/munge/socket" --pid-file="$folder/munge/pid" \
        --log-file="$folder/munge/log" --seed-file="$folder/munge/seed" >"$folder/munge/start.log" 2>&1 ||
        { cat "$folder/munge/start.log" >&2; exit 1; }
fi

if ! runs "$folder/slurmctld.pid" slurmctld; then
    cat >"$SLURM_CONF" <<CONF
ClusterName=iddmbench-tests
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=5,bf_interval=5
ReturnToService=2
InactiveLimit=0
KillWait=5
MinJobAge=60
SlurmdTimeout=60
MaxArraySize=2001
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus State=UNKNOWN
PartitionName=debug Nodes=$host Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
CONF
    slurmctld -f "$SLURM_CONF" >&2
fi

runs "$folder/slurmd.pid" slurmd || slurmd -f "$SLURM_CONF" -N "$host" >&2

for _ in $(seq 60); do
    if sinfo --noheader --format=%T 2>/dev/null | grep -qE '^(idle|mixed|allocated)'; then
        echo "export SLURM_CONF=$SLURM_CONF"
        exit 0
    fi
    scontrol update "NodeName=$host" State=RESUME >/dev/null 2>&1 || true # after a crash it may be "down"
    sleep 0.5
done
echo "Slurm did not start; see $folder/slurmctld.log and slurmd.log" >&2
exit 1
