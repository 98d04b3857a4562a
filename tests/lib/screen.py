"""What a guest's screen says: reads a PPM screendump and turns 8x16 and 9x16 text cells back into characters.

The glyphs are looked up in the fonts of the VGA BIOS (8x16, and 8x8 and 8x14 beside it), so this reads the
picture a person would see, not video memory.
"""
import os
import re

HIGH = (
    "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀"
    "αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■ "
)
LOW = " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼"
CP437 = LOW + "".join(chr(c) for c in range(32, 127)) + "⌂" + HIGH

SMILEY_16 = bytes.fromhex("00007e81a58181bd9981817e00000000")
SMILEY_14 = bytes.fromhex("00007e81a58181bd9981 7e000000".replace(" ", ""))
SMILEY_8 = bytes.fromhex("7e81a581bd99817e")


class Picture:
    """A binary PPM: width, height, pixels as bytes, three a pixel."""

    def __init__(self, data):
        header = re.match(rb"P6\s+(?:#.*\n)?(\d+)\s+(\d+)\s+255\s", data)
        if not header:
            raise ValueError("this is not a PPM picture")
        self.width, self.height = int(header[1]), int(header[2])
        self.pixels = data[header.end() :]
        if len(self.pixels) != self.width * self.height * 3:
            raise ValueError("the PPM picture has a wrong size")

    def pixel(self, x, y):
        at = (y * self.width + x) * 3
        return tuple(self.pixels[at : at + 3])

    def colours(self):
        """colour -> how many pixels have it"""
        count = {}
        for at in range(0, len(self.pixels), 3):
            pixel = self.pixels[at : at + 3]
            count[pixel] = count.get(pixel, 0) + 1
        return count


class Font:
    def __init__(self, vgabios):
        with open(vgabios, "rb") as f:
            rom = f.read()
        self.glyphs = {}
        self.cells = {}
        for height, smiley in ((16, SMILEY_16), (14, SMILEY_14), (8, SMILEY_8)):
            at = rom.find(smiley) - height
            if at < 0:
                continue
            table = {}
            for code in range(len(rom[at : at + 256 * height]) // height):
                glyph = rom[at + code * height : at + (code + 1) * height]
                table.setdefault(glyph, CP437[code])
            self.glyphs[height] = table

    def read_cell(self, rows, cell_width, height):
        """rows: the pixel bytes of each line of the cell."""
        key = b"".join(rows)
        known = self.cells.get((cell_width, key))
        if known is not None:
            return known
        bits = self.bitmap(rows, cell_width)
        table = self.glyphs[height]
        char = "?"
        for candidate in (bits, bytes(b ^ 255 for b in bits)):
            if candidate in table:
                char = table[candidate]
                break
        else:  # a cursor may stand in the lowest lines
            top = height - height // 5
            for candidate in (bits, bytes(b ^ 255 for b in bits)):
                for glyph, value in table.items():
                    if glyph[:top] == candidate[:top] and char == "?":
                        char = value
        self.cells[(cell_width, key)] = char
        return char

    @staticmethod
    def bitmap(rows, cell_width):
        background = rows[0][:3]
        out = bytearray()
        for row in rows:
            value = 0
            for x in range(8):
                value = value << 1 | (row[x * 3 : x * 3 + 3] != background)
            out.append(value)
        return bytes(out)


def text_of(picture, font, cell=None):
    """The lines of a text screen, without blanks at their ends. cell: (width, height), else guessed."""
    if cell is None:
        width = 9 if picture.width in (720, 360) else 8
        height = {400: 16, 350: 14, 200: 8, 480: 16, 600: 16, 768: 16}.get(picture.height, 16)
        cell = (width, height)
    width, height = cell
    stride = picture.width * 3
    lines = []
    for y in range(0, picture.height - height + 1, height):
        rows = [picture.pixels[(y + i) * stride : (y + i + 1) * stride] for i in range(height)]
        chars = []
        for x in range(0, picture.width - width + 1, width):
            chars.append(font.read_cell([row[x * 3 : (x + width) * 3] for row in rows], width, height))
        lines.append("".join(chars).rstrip())
    return lines


def find_vgabios(*folders):
    for folder in folders:
        name = os.path.join(folder, "vgabios-stdvga.bin")
        if os.path.exists(name):
            return name
    raise FileNotFoundError("vgabios-stdvga.bin")
