#!/usr/bin/env bash
# From problems and rules to an adapter and a report. Run it again after an interruption: finished work is kept.
set -euo pipefail
cd "$(dirname "$0")"

if [ -f teacher.jsonl ]; then                       # the sample's stand-ins
  teacher=jsonl:teacher.jsonl routes="jsonl:routes-a.jsonl jsonl:routes-b.jsonl"
else                                                # a domain of your own: the solutions of its table (realm import --solution)
  teacher=jsonl:problems.jsonl routes=none
fi
TEACHER=${TEACHER:-$teacher}   # e.g. openai:http://localhost:8000/v1#Qwen/Qwen2.5-32B-Instruct
ROUTES=${ROUTES:-$routes}      # other models, right and wrong, two or more; or: own, none (below)
common="--recipe recipe.yaml --run run ${SET:-}"      # SET="--set eval.limit=20 ..." changes keys of the recipe for a try

distill() {
  realm distill $common --resume --teacher "$TEACHER" --rules rules.md --notes notes.md   # run/distill/adapter
}

echo "paths below are in $PWD" >&2
realm check .
if [ "${TEACHER#jsonl:}" = "$TEACHER" ] && grep -qs "(Not written yet:" rules.md; then
  echo "error: rules.md: the rules are not written yet, and $TEACHER needs them; put them in its place" >&2
  exit 1
fi
if [ "$ROUTES" = none ]; then                       # no other models: guided distillation alone
  distill
  realm eval $common --resume --compare --mode bare
  realm report run
  echo "look at it: $PWD/run/report.html" >&2
  exit
fi
models="" modes=""
if [ "$ROUTES" = own ]; then                        # no other models: the student's own attempts, once it is distilled
  [ -f run/distill/adapter/adapter_model.safetensors ] || distill
  models="--model adapter:run/distill/adapter --n 4"
  modes="--mode bare"                               # its attempts are often alike: too few to show beside a test problem
else
  for model in $ROUTES; do models="$models --model $model"; done
fi
realm rollout $common $models                       # run/rollout/routes.jsonl: what other models say
realm verify  $common --resume                      # run/verify/: which steps hold, sets of right and wrong routes
if [ "$ROUTES" != own ]; then distill; fi
realm refine   $common --resume                     # own right solutions, found with routes, learned without
realm train-rl $common --resume                     # run/train_rl/adapter: the routes fade from the prompts
realm eval     $common --resume --compare $modes    # run/eval/report.json: by how much, with intervals
realm report   run                                  # run/report.html: the same to look at, with examples and curves
echo "look at it: $PWD/run/report.html" >&2
