"""Our lossless tokenizers as Hugging Face's, with the same ids on every text. Needs the tokenizers library.

A SentencePiece BPE becomes the same merges in the same order; the 260-entry byte tokenizer has none. Pieces are spelled
with plain spaces instead of SentencePiece's ▁, so no text needs to be rewritten, and a real ▁ falls back to its three
bytes, as ours does. Not for the contest's tokenizers, which normalize their text.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import sentencepiece

from base.files import write_json
from data.tokenizer import SPACE, ByteTokenizer, Tokenizer

LLAMA_TOKENIZER = "tokenizer.json"
BYTE_SPECIALS = ["<pad>", "<s>", "</s>", "<unk>"]


def write_tokenizer(tokenizer: Tokenizer, folder: Path, positions: int) -> None:
    """tokenizer.json, and tokenizer_config.json: names of special tokens inside a text are plain text."""
    library: Any = import_module("tokenizers")
    if isinstance(tokenizer, ByteTokenizer):
        special = dict(enumerate(BYTE_SPECIALS))
        pieces = BYTE_SPECIALS + [f"<0x{value:02X}>" for value in range(256)]
        merges: list[tuple[str, str]] = []
    else:
        sp = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
        tokens = range(sp.vocab_size())
        special = {token: sp.id_to_piece(token) for token in tokens if sp.is_control(token) or sp.is_unknown(token)}
        pieces = [sp.id_to_piece(token).replace(SPACE, " ") for token in tokens]
        merges = find_merges(sp, pieces)
    vocab = {piece: token for token, piece in enumerate(pieces)}
    bpe = library.models.BPE(vocab, merges, unk_token=special.get(tokenizer.unk_id), byte_fallback=True)
    theirs = library.Tokenizer(bpe)
    theirs.decoder = library.decoders.Sequence([library.decoders.ByteFallback(), library.decoders.Fuse()])
    theirs.add_special_tokens([special[token] for token in sorted(special)])
    theirs.save(str(folder / LLAMA_TOKENIZER))
    roles = {"pad": tokenizer.pad_id, "bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "unk": tokenizer.unk_id}
    names = {f"{role}_token": special[token] for role, token in roles.items() if token in special}
    options = {"model_max_length": positions, "split_special_tokens": True, "clean_up_tokenization_spaces": False}
    write_json(folder / "tokenizer_config.json", names | options | {"tokenizer_class": "PreTrainedTokenizerFast"})


def find_merges(sp: sentencepiece.SentencePieceProcessor, pieces: list[str]) -> list[tuple[str, str]]:
    """SentencePiece stores scores, not merges: of two possible merges, the higher score is first."""
    kinds = (sp.is_byte, sp.is_control, sp.is_unknown, sp.is_unused)
    ids = {piece: token for token, piece in enumerate(pieces) if not any(is_kind(token) for is_kind in kinds)}
    merges = []
    for piece in sorted(ids, key=lambda piece: (-sp.get_score(ids[piece]), ids[piece])):
        splits = [(piece[:at], piece[at:]) for at in range(1, len(piece))]
        known = [(left, right) for left, right in splits if left in ids and right in ids]
        merges += sorted(known, key=lambda pair: (ids[pair[0]], ids[pair[1]]))
    return merges
