import struct
import zlib

import pytest

from stages.formats import ImageError, check_file, check_scans, format_of

LARGE = 10**8


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"GIF89a", "GIF"),
        (b"BM", "BMP"),
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "WEBP"),
        (b"\0\0\0\x1cftypavif", "AVIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "AVIF"),
    ],
)
def test_formats_are_known_by_their_first_bytes(start: bytes, name: str) -> None:
    assert format_of(start + bytes(40)) == name


@pytest.mark.parametrize(
    ("data", "reason", "message"),
    [
        (b"", "not_an_image", "empty"),
        (b"\xef\xbb\xbf\n<!DOCTYPE HTML><p>Sorry", "not_an_image", "HTML"),
        (b"<html><body>", "not_an_image", "HTML"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image", "SVG"),
        (b'{"error": "not found"}', "not_an_image", "not found"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "not_an_image", "RIFF"),
        (b"\0\0\x01\0\x01\0\x10\x10", "unsupported_format", "ICO"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "unsupported_format", "heic"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "unsupported_format", "isom"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "unsupported_format", "JPEG XL"),
        (b"%PDF-1.4", "unsupported_format", "PDF"),
    ],
)
def test_what_is_not_opened_is_named(data: bytes, reason: str, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        format_of(data)
    assert caught.value.reason == reason


def test_a_png_needs_its_end_and_the_checksums_of_its_critical_chunks() -> None:
    whole = png((b"IHDR", bytes(13)), (b"tEXt", b"a\0b"), (b"IDAT", b"pixels"), (b"IEND", b""))
    check_file("PNG", whole, LARGE)
    check_file("PNG", whole.replace(b"a\0b", b"a\0c"), LARGE)
    with pytest.raises(ImageError, match=r"IDAT.*checksum"):
        check_file("PNG", whole.replace(b"pixels", b"pixelz"), LARGE)
    with pytest.raises(ImageError, match="without its IEND"):
        check_file("PNG", whole[:-1], LARGE)


def jpeg(marker: int, bits: int, *more: bytes) -> bytes:
    """The segments of a JPEG that say how it is coded, and a scan without samples."""
    frame = bytes([0xFF, marker, 0, 11, bits, 0, 9, 0, 9, 1, 1, 0x11, 0])
    return b"\xff\xd8\xff\xe0\0\4\xff\xc3" + frame + b"\xff\xda\0\x08" + bytes(6) + b"".join(more) + b"\xff\xd9"


@pytest.mark.parametrize(("marker", "bits"), [(0xC0, 8), (0xC1, 8), (0xC2, 8), (0xC9, 8), (0xCA, 8)])
def test_codings_of_jpeg_that_decoders_know_pass(marker: int, bits: int) -> None:
    check_file("JPEG", jpeg(marker, bits), LARGE)


@pytest.mark.parametrize(("marker", "bits"), [(0xC1, 12), (0xC2, 12), (0xC3, 8), (0xC5, 8), (0xCB, 8), (0xCF, 8)])
def test_lossless_hierarchical_and_12_bit_jpegs_are_refused(marker: int, bits: int) -> None:
    with pytest.raises(ImageError, match=f"FF{marker:X}, {bits} bits") as caught:
        check_file("JPEG", jpeg(marker, bits), LARGE)
    assert caught.value.reason == "unsupported_format"


def test_a_large_jpeg_may_have_fewer_scans() -> None:
    data = jpeg(0xC2, 8, *[b"\xff\xda\0\x08" + bytes(6)] * 29)
    check_scans(data, LARGE // 2, LARGE)
    with pytest.raises(ImageError, match="30 scans") as caught:
        check_scans(data, LARGE, LARGE)
    assert caught.value.reason == "bomb"


def test_a_jpeg_of_more_scans_than_any_encoder_writes_is_a_bomb() -> None:
    scan = b"\xff\xda\0\x08" + bytes(6)
    check_file("JPEG", jpeg(0xC2, 8, *[scan] * 99), LARGE)
    with pytest.raises(ImageError, match="101 scans") as caught:
        check_file("JPEG", jpeg(0xC2, 8, *[scan] * 100), LARGE)
    assert caught.value.reason == "bomb"


def test_a_png_of_apple_s_own_form_is_refused() -> None:
    with pytest.raises(ImageError, match="Apple") as caught:
        check_file("PNG", png((b"CgBI", b"P\0 \2"), (b"IHDR", bytes(13)), (b"IEND", b"")), LARGE)
    assert caught.value.reason == "unsupported_format"


def test_a_webp_canvas_is_judged_before_anything_is_reserved() -> None:
    header = b"VP8X\x0a\0\0\0" + bytes(4) + b"\xff\xff\xff" + b"\xff\0\0"
    data = b"RIFF" + struct.pack("<I", len(header) + 4) + b"WEBP" + header
    with pytest.raises(ImageError, match="16777216 x 256 pixels") as caught:
        check_file("WEBP", data, LARGE)
    assert caught.value.reason == "bomb"
