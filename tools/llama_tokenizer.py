"""Our tokenizers as Hugging Face's `tokenizer.json`, with the same ids on every text.

A SentencePiece BPE becomes the same merges in the same order; the 260-entry byte tokenizer has none. Pieces are spelled
with plain spaces instead of SentencePiece's ▁, so no text needs to be rewritten, and a real ▁ falls back to its three
bytes, as ours does. Only for lossless tokenizers: the contest's normalize their text, and this file does not.
"""

from typing import Any

import sentencepiece

from base.errors import BadInput
from data.tokenizer import BYTE_OFFSET, SPACE, ByteTokenizer, Tokenizer

BYTE_SPECIALS = {"pad": "<pad>", "bos": "<s>", "eos": "</s>", "unk": "<unk>"}


def tokenizer_json(tokenizer: Tokenizer) -> dict[str, Any]:
    if not tokenizer.lossless:
        raise BadInput("this tokenizer normalizes its text; only a lossless one has a tokenizer.json")
    names = special_names(tokenizer)
    pieces, merges = byte_pieces(names) if isinstance(tokenizer, ByteTokenizer) else bpe_pieces(tokenizer)
    plain = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "normalizer": None, "pre_tokenizer": None, "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "added_tokens": [{"id": token, "content": name, **plain} for token, name in sorted(names.items())],
        "model": {
            "type": "BPE", "dropout": None, "unk_token": names.get(tokenizer.unk_id), "fuse_unk": False,
            "continuing_subword_prefix": None, "end_of_word_suffix": None, "byte_fallback": True,
            "ignore_merges": False, "vocab": {piece: token for token, piece in enumerate(pieces)}, "merges": merges,
        },
    }  # fmt: skip


def tokenizer_config(tokenizer: Tokenizer, positions: int) -> dict[str, Any]:
    """Written beside tokenizer.json: which tokens are special, and that their names inside a text are plain text."""
    names = special_names(tokenizer)
    roles = {f"{role}_token": names[token] for role, token in special_ids(tokenizer).items() if token in names}
    return roles | {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": positions, "split_special_tokens": True,
        "clean_up_tokenization_spaces": False,
    }  # fmt: skip


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    return {"pad": tokenizer.pad_id, "bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "unk": tokenizer.unk_id}


def special_names(tokenizer: Tokenizer) -> dict[int, str]:
    """id -> spelling of the special tokens that exist."""
    if isinstance(tokenizer, ByteTokenizer):
        return {token: BYTE_SPECIALS[role] for role, token in special_ids(tokenizer).items()}
    sp = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    special = [token for token in range(sp.vocab_size()) if sp.is_control(token) or sp.is_unknown(token)]
    return {token: sp.id_to_piece(token) for token in special}


def byte_pieces(names: dict[int, str]) -> tuple[list[str], list[list[str]]]:
    return [names[token] for token in range(BYTE_OFFSET)] + [f"<0x{value:02X}>" for value in range(256)], []


def bpe_pieces(tokenizer: Tokenizer) -> tuple[list[str], list[list[str]]]:
    """(pieces, merges). SentencePiece stores scores, not merges: of two possible merges, the higher score is first."""
    sp = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    tokens = range(sp.vocab_size())
    pieces = [sp.id_to_piece(token).replace(SPACE, " ") for token in tokens]
    kinds = (sp.is_byte, sp.is_control, sp.is_unknown, sp.is_unused)
    ids = {pieces[token]: token for token in tokens if not any(is_kind(token) for is_kind in kinds)}
    merges = []
    for piece in sorted(ids, key=lambda piece: (-sp.get_score(ids[piece]), ids[piece])):
        splits = [(piece[:at], piece[at:]) for at in range(1, len(piece))]
        known = [(a, b) for a, b in splits if a in ids and b in ids]
        merges += [[a, b] for a, b in sorted(known, key=lambda pair: (ids[pair[0]], ids[pair[1]]))]
    return pieces, merges
