"""Everything that runs models: the only part of the package that imports torch, transformers, peft, trl and openai.

sources.py        model names -> files: builtin, folder, GGUF, hub
loading.py        models, tokenizers, adapters
chat.py           chat templates as token ids
sampler.py        batched sampling and log-likelihoods with a local model
openai_client.py  any OpenAI-compatible server: many requests at once
server_calls.py   one request: tries, deadline; server_answers.py, server_errors.py, server_params.py: what comes back
programs.py       oracle, noisy solvers and written text (no torch)
build.py          model specs (`student`, `solver:NAME`, ...) -> a Generator
sft.py, grpo.py   the two trainers
"""

import logging

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it remarks on optional kernels when it is imported
