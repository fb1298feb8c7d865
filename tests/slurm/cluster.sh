#!/bin/bash
# A real Slurm cluster of three nodes on this machine, for tests: munged, slurmctld, three slurmd, on 127.0.0.1 only.
#   cluster.sh DIR start | stop | kill-node NODE
# Starts only what it stops, by process id. Needs slurmctld, slurmd, the clients and munge; no systemd, no root.
set -eu
dir=$1 verb=$2
export PATH=$PATH:/usr/sbin:/sbin SLURM_CONF=$dir/slurm.conf
me=$(id -un) host=$(uname -n | cut -d. -f1)

launch() { # name, command...: a daemon in the foreground, its process id in DIR/run
  local name=$1
  shift
  setsid "$@" </dev/null >>"$dir/log/$name.out" 2>&1 &
  echo $! >"$dir/run/$name.pid"
}
descendants() {
  local child
  for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do echo "$child"; descendants "$child"; done
}
steps() { # the job steps of a node: they hold its spool directory or its log open
  local p
  for p in /proc/[0-9]*; do
    case $(readlink "$p/exe" 2>/dev/null) in *slurmstepd*) ;; *) continue ;; esac
    if find "$p/fd" \( -lname "$dir/spool/$1/*" -o -lname "$dir/log/slurmd.$1.log" \) 2>/dev/null | grep -q .; then
      echo "${p#/proc/}"
    fi
  done
}
crash() { # as if its power were cut: the daemon, its steps and their programs at once
  local step all
  all=$(cat "$dir/run/slurmd.$1.pid")
  for step in $(steps "$1"); do all="$all $step $(descendants "$step")"; done
  kill -KILL $all 2>/dev/null || true
}

case $verb in
start)
  mkdir -p "$dir"/log "$dir"/run "$dir"/munge "$dir"/state "$dir"/spool/node1 "$dir"/spool/node2 "$dir"/spool/node3
  chmod 755 "$dir" "$dir"/munge "$dir"/spool "$dir"/log
  port=$((20000 + RANDOM % 20000))
  (umask 077; head -c 1024 /dev/urandom >"$dir/munge/munge.key")
  launch munged munged --foreground --force --key-file="$dir/munge/munge.key" --socket="$dir/munge/socket" \
    --pid-file="$dir/munge/pid" --log-file="$dir/log/munged.log" --seed-file="$dir/munge/seed"
  cat >"$dir/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$me
SlurmdUser=$me
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket,cred_expire=5
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/run/slurmctld.self
SlurmdPidFile=$dir/run/slurmd.%n.self
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,bf_continue,sched_interval=2,sched_min_interval=0,batch_sched_delay=0
JobRequeue=1
SlurmctldTimeout=30
SlurmdTimeout=10
KillWait=5
MessageTimeout=5
ReturnToService=2
PropagateResourceLimits=NONE
AccountingStorageType=accounting_storage/none
CONF
  for i in 1 2 3; do
    echo "NodeName=node$i NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + i)) CPUs=2 RealMemory=4000 State=UNKNOWN"
  done >>"$dir/slurm.conf"
  echo "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP" >>"$dir/slurm.conf"
  echo "CgroupAutomount=no" >"$dir/cgroup.conf"
  for _ in $(seq 100); do munge -n -S "$dir/munge/socket" >/dev/null 2>&1 && break; sleep 0.1; done
  launch slurmctld slurmctld -D -f "$SLURM_CONF"
  for i in 1 2 3; do launch "slurmd.node$i" slurmd -D -N "node$i" -f "$SLURM_CONF"; done
  for _ in $(seq 300); do
    [ "$(timeout 5 sinfo -h -N -o %T 2>/dev/null | grep -c '^idle$')" = 3 ] && exit 0
    sleep 0.1
  done
  echo "the nodes did not come up" >&2
  tail -n 5 "$dir"/log/* >&2
  exit 1
  ;;
kill-node)
  crash "$3"
  timeout 10 scontrol update nodename="$3" state=down reason=crashed
  ;;
stop)
  timeout 10 scancel --quiet --user="$me" || true
  for i in 1 2 3; do crash "node$i"; done
  for name in slurmctld munged; do kill "$(cat "$dir/run/$name.pid")" 2>/dev/null || true; done
  ;;
esac
