#!/bin/sh
# A worker as a shell loop: counts the words of tasks that require "counting", until nothing is left for it.
# Beside a queue (orchestrate init):  sh examples/worker.sh [id]
set -eu
me=${1:-shell-$$}
: "${ORCHESTRATE:=orchestrate}"

"$ORCHESTRATE" register "$me" --capability counting --replace >/dev/null
trap '"$ORCHESTRATE" unregister "$me" >/dev/null || true' EXIT

while claimed=$("$ORCHESTRATE" poll "$me" --claim) && [ -n "$claimed" ]; do
    IFS='	' read -r task run prompt output <<CLAIMED
$claimed
CLAIMED
    "$ORCHESTRATE" begin "$task" --agent "$me" --run "$run"
    # Work that takes longer says every now and then that it still lives; not when this shell does not.
    while sleep 20 && kill -0 $$; do "$ORCHESTRATE" heartbeat "$me" --task "$task" --run "$run" || exit 0; done >/dev/null 2>&1 &
    beat=$!
    if wc -w <"$prompt" >"$output"; then
        "$ORCHESTRATE" complete "$task" --agent "$me" --run "$run"
    else
        "$ORCHESTRATE" fail "$task" --agent "$me" --run "$run" --error "cannot count"
    fi
    kill "$beat"
done
