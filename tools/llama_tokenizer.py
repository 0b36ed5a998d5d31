"""Our tokenizers as Hugging Face's `tokenizer.json`, whose ids are ours on every text.

A SentencePiece BPE becomes the same merges in the same order; the 260-entry byte tokenizer has none. Pieces are spelled
with real spaces, not with SentencePiece's ▁, so that no text is rewritten, and a real ▁ falls back to its three bytes,
as ours does. Only for lossless tokenizers: what the contest's normalises, this file would not.
"""

from typing import Any

import sentencepiece

from base.errors import BadInput
from data.tokenizer import BYTE_OFFSET, SPACE, ByteTokenizer, Tokenizer

SPECIALS = {"pad": "<pad>", "bos": "<s>", "eos": "</s>", "unk": "<unk>"}


def tokenizer_json(tokenizer: Tokenizer) -> dict[str, Any]:
    if not tokenizer.lossless:
        raise BadInput("this tokenizer normalises its text; only a lossless one has a tokenizer.json")
    names = special_names(tokenizer)
    pieces, merges = _bytes(names) if isinstance(tokenizer, ByteTokenizer) else _bpe(tokenizer)
    added = [
        {"id": token, "content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for token, name in sorted(names.items())
    ]  # fmt: skip
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": None, "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": names.get(tokenizer.unk_id), "fuse_unk": False,
            "continuing_subword_prefix": None, "end_of_word_suffix": None, "byte_fallback": True,
            "ignore_merges": False, "vocab": {piece: token for token, piece in enumerate(pieces)}, "merges": merges,
        },
    }  # fmt: skip


def tokenizer_config(tokenizer: Tokenizer, positions: int) -> dict[str, Any]:
    """Beside tokenizer.json: which tokens are special, and that their names in a text are text."""
    names = special_names(tokenizer)
    known = {f"{role}_token": names[token] for role, token in _specials(tokenizer).items() if token in names}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": positions, "split_special_tokens": True,
        "clean_up_tokenization_spaces": False, **known,
    }  # fmt: skip


def special_names(tokenizer: Tokenizer) -> dict[int, str]:
    """id -> spelling, of the specials that there are."""
    if isinstance(tokenizer, ByteTokenizer):
        return {token: SPECIALS[role] for role, token in _specials(tokenizer).items()}
    sp = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    special = (token for token in range(sp.vocab_size()) if sp.is_control(token) or sp.is_unknown(token))
    return {token: sp.id_to_piece(token) for token in special}


def _specials(tokenizer: Tokenizer) -> dict[str, int]:
    return {"pad": tokenizer.pad_id, "bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "unk": tokenizer.unk_id}


def _bytes(names: dict[int, str]) -> tuple[list[str], list[list[str]]]:
    return [names[token] for token in range(BYTE_OFFSET)] + [f"<0x{value:02X}>" for value in range(256)], []


def _bpe(tokenizer: Tokenizer) -> tuple[list[str], list[list[str]]]:
    """(pieces, merges): two parts that make a piece merge the sooner, the higher that piece's score."""
    sp = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    tokens, others = range(sp.vocab_size()), (sp.is_byte, sp.is_control, sp.is_unknown, sp.is_unused)
    pieces = [sp.id_to_piece(token).replace(SPACE, " ") for token in tokens]
    made = {pieces[token]: token for token in tokens if not any(other(token) for other in others)}
    merges = []
    for whole in sorted(made, key=lambda piece: (-sp.get_score(made[piece]), made[piece])):
        splits = [(whole[:at], whole[at:]) for at in range(1, len(whole))]
        possible = [(a, b) for a, b in splits if a in made and b in made]
        merges += [[a, b] for a, b in sorted(possible, key=lambda pair: (made[pair[0]], made[pair[1]]))]
    return pieces, merges
