#!/usr/bin/env bash
# The stages on explicit files, one after the other: the built-in rulebook domain and the tiny student.
# Every arrow is a file, so each stage can be rerun, replaced by another tool, or looked into with jq.
#
#   examples/pipeline.sh [FOLDER]        default runs/pipeline; minutes on two CPU cores, no GPU, no downloads
#
# Your own problems: write problems.jsonl (one {"id", "question", "answer", "answer_type", "split"} a line), rules.md;
# leave stage 0 out, and name a teacher such as openai:http://localhost:8000/v1#MODEL instead of the oracle.
set -euo pipefail

out=${1:-runs/pipeline}
problems=$out/problems.jsonl
stage() { printf '\n== %s\n' "$*" >&2; }

stage "0 problems with checkable answers, and the rules that solve them"
realm domain rulebook --out "$out" --n-train 300 --n-dev 60 --n-test 150 --force

stage "1 rollout: bare routes of three noisy solvers, for contrast   -> rollout/routes.jsonl"
realm rollout --recipe demo --run "$out" --problems "$problems" --force \
  --model solver:forgetful --model solver:generalist --model solver:hasty --n 2

stage "2 verify: support per step, first errors, contrastive sets  -> verify/{scored,sets}.jsonl"
realm verify --recipe demo --run "$out" --problems "$problems" --force \
  --routes "$out/rollout/routes.jsonl"

stage "3 distill: the teacher sees the rules, the student does not -> distill/adapter"
realm distill --recipe demo --run "$out" --problems "$problems" --force \
  --teacher oracle --rules "$out/rules.md" --notes "$out/notes.md" \
  --sets "$out/verify/sets.jsonl" --scored "$out/verify/scored.jsonl"

stage "4 refine: own right solutions, found with routes, learned bare -> refine/distill/adapter"
realm refine --recipe demo --run "$out" --problems "$problems" --force --set distill.sft.epochs=4 \
  --sets "$out/verify/sets.jsonl" --adapter "$out/distill/adapter" --positives "$out/rollout/routes.jsonl"

stage "5 train-rl: GRPO while the routes fade from the prompt      -> train_rl/adapter"
realm train-rl --recipe demo --run "$out" --problems "$problems" --force \
  --sets "$out/verify/sets.jsonl" --adapter "$out/refine/distill/adapter" --steps 20 --eaai-steps 12

stage "6 eval: base, distilled, refined, RL; bare and with routes  -> eval/report.json"
realm eval --recipe demo --run "$out" --problems "$problems" --force \
  --routes "$out/rollout/routes.jsonl" --mode bare --mode routed --compare \
  --adapter distilled="$out/distill/adapter" --adapter refined="$out/refine/distill/adapter" \
  --adapter rl="$out/train_rl/adapter"

stage "look into it"
echo "a route set:   head -1 $out/verify/sets.jsonl"
echo "the fade:      cut -c1-120 $out/train_rl/plan.jsonl | head"
echo "every figure:  $out/eval/report.json"
