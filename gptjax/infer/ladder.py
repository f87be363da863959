"""Few sizes for arrays of many: each size that a program is compiled for costs more than what fills it up."""


def rung(size: int) -> int:
    """The next of a short ladder of sizes: 0, 1, 2, 4, ... 64, and from there on the middles between powers of two."""
    power = 1 << max(size - 1, 0).bit_length() if size else 0
    return power * 3 // 4 if power > 64 and size <= power * 3 // 4 else power
