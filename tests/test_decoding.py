import io
import resource
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile

from agegender_jax.data.decoding import MAX_PIXELS, DecodeError, decode, resize

SIDE = 48


def face() -> Image.Image:
    """A smooth picture with all corners different."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1)
    return Image.fromarray((np.stack([x, y, (1 - x) * y], -1) * 200 + 30).astype(np.uint8))


def encode(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png(width: int, height: int, rows: bytes, depth: int = 8, colour: int = 2, extra: bytes = b"") -> bytes:
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def assert_same(data: bytes, reference: Image.Image, tolerance: float = 2.0):
    pixels = decode(data)
    expected = np.asarray(reference.convert("RGB")).astype(int)
    assert pixels.dtype == np.uint8 and pixels.shape == expected.shape
    assert np.abs(pixels - expected).mean() <= tolerance


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_every_format(form):
    assert_same(encode(face(), form), face(), 8 if form == "GIF" else 2)


def test_other_formats_are_refused():
    for form in ("TIFF", "PPM", "TGA", "ICO"):
        with pytest.raises(DecodeError, match="not a JPEG, PNG, WEBP, BMP or GIF image|damaged"):
            decode(encode(face(), form))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_png_modes(mode):
    image = face().convert(mode)
    assert_same(encode(image, "PNG"), image, 0)


def test_jpeg_cmyk_and_grey():
    assert_same(encode(face().convert("CMYK"), "JPEG", quality=95), face())
    assert_same(encode(face().convert("L"), "JPEG", quality=95), face().convert("L"))


def test_colour_profiles_leave_the_pixels_alone():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert_same(encode(face(), "PNG", icc_profile=profile), face(), 0)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_alpha_is_composited_on_white(form):
    clear = face().convert("RGBA")
    clear.putalpha(0)
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    assert decode(encode(clear, form, **options)).min() == 255
    np.testing.assert_allclose(decode(encode(half, form, **options)), 127, atol=1)


def test_transparent_palette_and_colour_key_are_composited_on_white():
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.putpixel((0, 0), 1)
    for form in ("PNG", "GIF"):
        pixels = decode(encode(palette, form, transparency=0))
        assert pixels[1, 1].tolist() == [255, 255, 255] and pixels[0, 0].tolist() == [10, 20, 30]
    wide = Image.fromarray(np.array([[0, 2570, 65535, 5140]], np.uint16))
    assert decode(encode(wide, "PNG", transparency=2570))[0].tolist() == [[v] * 3 for v in (0, 255, 255, 20)]
    keyed = decode(encode(Image.new("RGB", (4, 4), (9, 8, 7)), "PNG", transparency=(9, 8, 7)))
    assert keyed.min() == 255
    assert decode(encode(Image.new("LA", (4, 4), (0, 0)), "PNG")).min() == 255


@pytest.mark.parametrize(
    "depth, row, key, expected",
    [
        (1, "40", (0,), (255, 255, 255)),
        (2, "64", (2,), (85, 255, 85)),
        (4, "5a00", (5,), (255, 170, 0)),
        (4, "5a00", (0xA5,), (255, 170, 0)),  # only the lower bits count
        (8, "055511", (5,), (255, 85, 17)),
        (16, "12341256ffff", (0x1234,), (255, 18, 255)),
        (16, "123456789abc 123456789abd 001200120012", (0x1234, 0x5678, 0x9ABC), (255, 255, 0)),
    ],
)
def test_colour_keys_of_every_depth(depth, row, key, expected):
    body = b"tRNS" + struct.pack(f">{len(key)}H", *key)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    colour = 2 if len(key) == 3 else 0
    pixels = decode(png(3, 1, b"\0" + bytes.fromhex(row), depth, colour, chunk))
    assert pixels[0].tolist() == [[value] * 3 for value in expected]


def test_sixteen_bits_are_scaled_not_clipped():
    ramp = np.linspace(0, 65535, SIDE * SIDE).reshape(SIDE, SIDE).astype(np.uint16)
    expected = np.round(ramp / 257).astype(int)
    grey = decode(encode(Image.fromarray(ramp), "PNG"))
    assert np.abs(grey - expected[..., None]).max() <= 1 and grey.max() == 255

    def rows(channels):
        lines = np.repeat(ramp[..., None], channels, -1).astype(">u2")
        return b"".join(b"\0" + line.tobytes() for line in lines)

    colour = decode(png(SIDE, SIDE, rows(3), depth=16))
    assert np.abs(colour - expected[..., None]).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_upright_by_exif(orientation, form):
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = face().crop((0, 0, SIDE, SIDE - 16))
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert_same(encode(stored, form, exif=exif), upright)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Truncated File")
def test_damaged_exif_is_ignored():
    for exif in (b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0nonsense", b"Exif\0\0"):
        assert_same(encode(face(), "JPEG", exif=exif), face())
    unknown = Image.Exif()
    unknown[0x0112] = 9
    assert_same(encode(face(), "JPEG", exif=unknown), face())


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_is_decoded(form):
    red, blue = (Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue"))
    data = encode(red, form, save_all=True, append_images=[blue], duration=100)
    assert_same(data, red)


def test_odd_shapes():
    assert decode(encode(Image.new("RGB", (1, 1)), "PNG")).shape == (1, 1, 3)
    assert decode(encode(Image.new("RGB", (65000, 1)), "PNG")).shape == (1, 65000, 3)
    assert decode(encode(Image.new("RGB", (3, 65000)), "JPEG")).shape == (65000, 3, 3)


@pytest.mark.parametrize("data", [b"", b"hello", b"<html>404</html>", b"\xff\xd8\xff", b"\0" * 4096])
def test_no_image(data):
    with pytest.raises(DecodeError) as caught:
        decode(data)
    assert caught.value.reason and "\n" not in caught.value.reason and len(caught.value.reason) < 120


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("switch", [False, True])
def test_truncated(form, switch, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", switch)
    data = encode(face(), form)
    for cut in (len(data) // 2, len(data) - 10):
        with pytest.raises(DecodeError):
            decode(data[:cut])
    decode(data)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is switch  # that of the program that uses the library


def test_a_lower_limit_of_the_program_is_named(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DecodeError, match="more than 100 pixels, PIL.Image.MAX_IMAGE_PIXELS"):
        decode(encode(face(), "PNG"))


def test_trailing_bytes_are_ignored():
    for form in ("JPEG", "PNG", "WEBP", "BMP"):
        assert_same(encode(face(), form) + b"trailing", face())


@pytest.mark.parametrize("width, height", [(200000, 200000), (10000, 10000), (64001, 1000), (1, 2**31 - 1)])
def test_too_many_pixels_by_the_header(width, height):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DecodeError, match="megapixels"):
        decode(png(width, height, rows=b"\0" * 64))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


def test_too_many_pixels_in_other_formats():
    bmp = bytearray(encode(face(), "BMP"))
    bmp[18:26] = struct.pack("<ii", 30000, 30000)
    gif = bytearray(encode(face(), "GIF"))
    gif[6:10] = struct.pack("<HH", 9000, 9000)
    webp = bytearray(encode(face(), "WEBP"))
    webp[26:30] = struct.pack("<HH", 9000, 9000)  # in the VP8 frame's header
    for data in (bytes(bmp), bytes(gif), bytes(webp)):
        with pytest.raises(DecodeError, match="megapixels"):
            decode(data)
    assert MAX_PIXELS == 64_000_000


def test_huge_text_chunk():
    body = b"Comment\0\0" + zlib.compress(b"\0" * 2**27)
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    with pytest.raises(DecodeError):
        decode(png(2, 2, rows=b"\0" * 14, extra=chunk))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_decode_or_raise_a_decode_error(form):
    data = encode(face(), form)
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = np.frombuffer(data, np.uint8).copy()
        damaged[rng.integers(0, min(len(data), 400), 4)] = rng.integers(0, 256, 4)
        try:
            assert decode(damaged.tobytes()).shape[2] == 3
        except DecodeError as error:
            assert len(str(error)) < 120


def test_resize_takes_the_centred_square():
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    for image in (wide, wide.transpose(1, 0, 2)):
        small = resize(image, 5)
        assert small.shape == (5, 5, 3) and small.dtype == np.uint8 and (small == 200).all()
    same = resize(wide, 10)
    assert same.flags.c_contiguous and (same == 200).all()
    assert resize(np.full((1, 1, 3), 7, np.uint8), 8).tolist() == np.full((8, 8, 3), 7).tolist()


def test_resize_averages_when_it_shrinks():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    np.testing.assert_allclose(resize(stripes, 8)[:, 1:-1], 127, atol=3)
