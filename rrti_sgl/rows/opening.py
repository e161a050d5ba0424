"""Files as text: compression and encoding are told from the first bytes, whatever the name says.

Compressed by gzip, bzip2, xz, Zstandard, or as the one member of a zip archive, as pandas and the hub write them; UTF-8 with
or without a mark, UTF-16 and UTF-32, as Windows writes them. What is not UTF-8 and says nothing is refused by line:
`surrogateescape` lets the lines before and after it be read.
"""

from __future__ import annotations

import io
import json
import lzma
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, cast

import zstandard

from rrti_sgl.errors import UsageError

# What reading a damaged file raises, beside UnicodeError.
DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError, zipfile.BadZipFile)
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}
_ENCRYPTED = 1  # a flag of a zip archive's member
_ZIP_ZSTD = 93  # in zipfile from Python 3.14 on
_FLOOR, _RATIO = 2**28, 200  # bytes that any file may unpack to, and how many times its size: text makes some 20
_TOO_MUCH = f"it unpacks to more than {_RATIO} times its size"


class UnpacksTooFarError(OSError):
    """A file holds far more than its size lets expect."""

    def __init__(self) -> None:
        super().__init__(_TOO_MUCH)


def most_bytes(packed: int) -> int:
    """Bytes that a file of so many may unpack to."""
    return max(_FLOOR, _RATIO * packed)


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def open_text(path: Path) -> IO[str]:
    """The decompressed text of a file, with its line ends as they are; bytes that are no UTF-8 come as lone surrogates.

    Raises:
        UsageError: a zip archive of several files.
        Exception: one of `DAMAGE`.
    """
    file = io.BufferedReader(cast(io.RawIOBase, open_bytes(path)))
    encoding = json.detect_encoding(file.peek(4)[:4])
    errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
    return io.TextIOWrapper(file, encoding, errors, newline="")


def open_bytes(path: Path) -> IO[bytes]:
    """The decompressed bytes of a file."""
    with path.open("rb") as file:
        magic = file.read(6)
    for beginning, compression in _MAGIC.items():
        if magic.startswith(beginning):
            import pyarrow as pa

            # Unlike the reader of `zstandard`, this one tells a file that ends early.
            return cast(IO[bytes], _Unpacked(pa.input_stream(path, compression=compression), path.stat().st_size))
    if magic == b"\xfd7zXZ\x00":
        return cast(IO[bytes], _Unpacked(lzma.open(path), path.stat().st_size))
    if magic.startswith(b"PK\x03\x04"):
        with open_archive(path) as archive:
            members = archive.infolist()
            if len(members) != 1:
                raise UsageError(f"{path} is an archive of {len(members)} files.", "Give one file.")
            return io.BytesIO(member_bytes(archive, members[0]))
    return path.open("rb")


def open_archive(path: Path) -> zipfile.ZipFile:
    """A zip archive.

    Raises:
        zipfile.BadZipFile: it is damaged, or of a kind that nobody here can read.
    """
    try:
        return zipfile.ZipFile(path)
    except NotImplementedError as error:
        raise zipfile.BadZipFile(str(error)) from error


class _Unpacked(io.RawIOBase):
    """What a compressed file of so many bytes holds, as far as a text may be packed.

    Args:
        file: gives the content.
        packed: bytes of it.
    """

    def __init__(self, file: Any, packed: int) -> None:
        self._file, self._left = file, most_bytes(packed)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Raises UnpacksTooFarError."""
        read: int = self._file.readinto(buffer)
        self._left -= read
        if self._left < 0:
            raise UnpacksTooFarError
        return read

    def close(self) -> None:
        self._file.close()
        super().close()


def member_bytes(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The content of a member of an archive, also where it is compressed by Zstandard.

    Raises:
        zipfile.BadZipFile: it is damaged, encrypted, or compressed in a way that nobody here can read.
    """
    if member.flag_bits & _ENCRYPTED:
        raise zipfile.BadZipFile(f"{member.filename} is encrypted")
    most = most_bytes(member.compress_size)
    if member.file_size > most:
        raise zipfile.BadZipFile(f"{member.filename}: {_TOO_MUCH}")
    if member.compress_type != _ZIP_ZSTD:
        try:
            return archive.read(member)
        except NotImplementedError as error:
            raise zipfile.BadZipFile(f"{member.filename}: {error}") from error
    assert archive.fp is not None
    archive.fp.seek(member.header_offset)
    header = archive.fp.read(30)
    # Name and extra field stand between the local header and the data, and may differ from those of the directory.
    name_length, extra_length = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
    archive.fp.seek(name_length + extra_length, io.SEEK_CUR)
    packed = archive.fp.read(member.compress_size)
    try:
        content = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True).read(member.file_size)
    except zstandard.ZstdError as error:
        raise zipfile.BadZipFile(f"{member.filename}: {error}") from error
    if zlib.crc32(content) != member.CRC:
        raise zipfile.BadZipFile(f"Bad CRC-32 for file {member.filename!r}")
    return content
