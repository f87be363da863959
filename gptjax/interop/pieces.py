"""A sentencepiece model trained here, as a tokenizer of the tokenizers library."""

import tokenizers as library
from tokenizers import decoders, models, normalizers

from gptjax.data.sentencepieces import ESCAPE, SPACE, SentencePieceCodec


def converted(codec: SentencePieceCodec) -> library.Tokenizer | None:
    """The same pieces and merges; None for a unigram model, or one with a normalisation of its own.

    Sentencepiece merges the pair whose piece has the best score, the leftmost of equal ones. Here pairs are ranked, all
    ways to one piece next to each other; where a text could reach a piece in two ways at once, the tokens may differ.
    """
    size, processor = codec.size, codec.processor
    pieces = [processor.id_to_piece(id) for id in range(size)]
    learnt = [id for id in range(size) if not (processor.is_byte(id) or processor.is_control(id) or id == 0)]
    scores = [processor.get_score(id) for id in learnt]
    # A BPE model's scores are 0, -1, -2, ...: the order in which it learnt.
    if not codec.lossless or scores != sorted(scores, reverse=True) or any(score % 1 for score in scores):
        return None
    ids = {piece: id for id, piece in enumerate(pieces)}
    merges = [
        (piece[:cut], piece[cut:])
        for piece in (pieces[id] for id in learnt)
        for cut in range(1, len(piece))
        if piece[:cut] in ids and piece[cut:] in ids
    ]
    made = library.Tokenizer(models.BPE(ids, merges, byte_fallback=True, unk_token=pieces[0], fuse_unk=False))
    escapes = {ESCAPE: ESCAPE + "0", SPACE: ESCAPE + "1"}
    made.normalizer = normalizers.Sequence(
        [*(normalizers.Replace(old, new) for old, new in escapes.items()), normalizers.Replace(" ", SPACE)]
    )
    back = [decoders.Replace(new, old) for old, new in reversed(escapes.items())]
    made.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Replace(SPACE, " "), *back])
    return made
