"""Names that nobody should be able to reach another file with, or to bring a host down."""

from __future__ import annotations

HOSTILE = (
    "", " ", ".", "..", "../out", "../../../../etc/passwd", "a/../../../out", "..\\..\\out",
    "/etc/passwd", "/tmp/glitch_out", "//server/share/out", "\\\\server\\share\\out",
    "\\\\?\\C:\\out", "\\\\.\\PhysicalDrive0", "C:\\Windows\\win.ini", "C:/out", "c:out", "Z:",
    "file:///etc/passwd", "http://127.0.0.1/out", "~", "~root/out", "$HOME/out", "%TEMP%\\out",
    "%2e%2e%2fout", "..%2fout", "%00", "a\x00b", "a\x00.safetensors", "a\nb", "a\rb", "a\tb",
    "\x1b[2J", "x" * 300, "é" * 200, "a/" * 200 + "b", "CON", "nul.txt", "sub/AUX.png", "COM1",
    "LPT9.x", "a.", "a ", "a./b", "a /b", "a:b", "a::$DATA", "a*", "a?", "<a>", "a|b", '"a"',
    "'; --", "$(touch out)", "`id`", "-rf", "--help", "\ud800", "a\udcffb", "\u202egnp.exe",
    "\ufeffa", "\u200b", "a\u0300" * 50, "%s%n%d", "{0}{a}", "${a}", "[a", "[!a]", "**/*",
    "link_out", "link_out/secret",
)  # fmt: skip
"""``link_out`` is for a test to make: a link that leads out of where it lies."""
