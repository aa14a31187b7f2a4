"""What somebody sees at the other end of a serial line: the bytes that came, drawn as a VT100 of 80 columns and 24 rows draws them."""

import re

COLUMNS, ROWS = 80, 24
# An order to the terminal (CSI), a title or colours (OSC), two characters (a saved cursor), one that moves, or text.
PIECES = re.compile(r"\x1b\[([<-?]*)([0-9;]*)([ -/]*)([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*([0-~])|([\r\n\b])|([^\x00-\x1f\x7f]+)|[\x00-\x1f\x7f]")


def seen(text):
    """The rows of the screen after all of `text`."""
    rows, x, y, saved, wraps = blank(), 0, 0, (0, 0), True

    def line_feed(y):
        if y < ROWS - 1:
            return y + 1
        rows.append([" "] * COLUMNS)
        del rows[0]
        return y

    for piece in PIECES.finditer(text):
        private, words, _, order, short, move, plain = piece.groups()
        if plain:
            for letter in plain:
                if x >= COLUMNS:
                    x, y = (0, line_feed(y)) if wraps else (COLUMNS - 1, y)
                rows[y][x] = letter
                x += 1
        elif move:
            x, y = (0, y) if move == "\r" else (x, line_feed(y)) if move == "\n" else (max(0, x - 1), y)
        elif order:
            numbers = [int(word or 0) for word in words.split(";")]
            if order in "Hf":
                y, x = (min(max(1, number), most) - 1 for number, most in zip([*numbers, 0][:2], (ROWS, COLUMNS), strict=True))
            elif order == "J" and numbers[0] == 2:
                rows = blank()
            elif order == "J" and numbers[0] == 0:
                rows[y][x:] = [" "] * (COLUMNS - x)
                rows[y + 1 :] = blank()[y + 1 :]
            elif order == "K" and numbers[0] == 0:
                rows[y][x:] = [" "] * (COLUMNS - x)
            elif order in "hl" and private == "?" and 7 in numbers:
                wraps = order == "h"
        elif short == "7":
            saved = (x, y)
        elif short == "8":
            x, y = saved
    return ["".join(row).rstrip() for row in rows]


def blank():
    return [[" "] * COLUMNS for _ in range(ROWS)]
