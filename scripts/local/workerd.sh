#!/bin/sh
# Runs workerd so that it ends with the process that started it, even after kill -9.
#   CERTCTL_WORKERD           the workerd binary
#   CERTCTL_WORKERD_PARENT    the process that workerd must not outlive (default: the parent of this script)
#   CERTCTL_WORKERD_PID_FILE  if set: file for workerd's process id; must not exist yet, so that workerd starts only once
set -eu
CERTCTL_WORKERD_PARENT=${CERTCTL_WORKERD_PARENT:-$PPID}
export CERTCTL_WORKERD_PARENT

if [ "${1-}" = --bound ]; then
  shift
elif command -v setpriv >/dev/null 2>&1 && setpriv --pdeathsig KILL true 2>/dev/null; then
  exec setpriv --pdeathsig KILL "$0" --bound "$@"
else
  # No death signal here: a background loop checks every second. $$ stays this process's id through the exec below.
  (
    while kill -0 "$CERTCTL_WORKERD_PARENT" 2>/dev/null && kill -0 $$ 2>/dev/null; do sleep 1; done
    kill -9 $$ 2>/dev/null
  ) </dev/null >/dev/null 2>&1 3>&- &
fi

# The parent may have died before the signal was armed.
[ "$PPID" = "$CERTCTL_WORKERD_PARENT" ] || exit 1
if [ -n "${CERTCTL_WORKERD_PID_FILE-}" ]; then
  set -C
  { echo $$ >"$CERTCTL_WORKERD_PID_FILE"; } 2>/dev/null || exit 1
fi
exec "$CERTCTL_WORKERD" "$@"
