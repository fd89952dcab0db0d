"""The bytes of what is written to everybody: any text, in any number, read back by a parser that is not ours."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import pytest
from engineio.packet import MESSAGE
from engineio.packet import Packet as EnginePacket
from hypothesis import example, given
from hypothesis import strategies as st

from realtime.frames import Frame, bundle
from tests.support.websocket_frames import Op, parse, parse_all

#: Where the length of a frame changes its form (RFC 6455, section 5.2), and the neighbours.
BORDERS = [0, 1, 124, 125, 126, 127, 65_534, 65_535, 65_536, 65_537]


@dataclass(frozen=True, slots=True)
class Text:
    """Some letters, and one again and again: shown in few words, however long it is."""

    letters: str
    again: str = ""
    times: int = 0

    def __str__(self) -> str:
        return self.letters + self.again * self.times


#: Everything that UTF-8 can say: no lone surrogates.
texts = st.builds(Text, st.text(st.characters(exclude_categories=["Cs"])))


def frame_of(text: Text) -> Frame:
    """The frame of a message."""
    return Frame(b"4" + str(text).encode())


@st.composite
def texts_around_borders(draw: st.DrawFn) -> Text:
    """A text whose packet, with the "4" before it, takes a number of bytes around a border, in letters of any width."""
    size = draw(st.sampled_from(BORDERS))
    letter = draw(st.sampled_from("xéㅁ😀"))
    count, rest = divmod(max(0, size - 1), len(letter.encode()))
    return Text("x" * rest, letter, count)


@given(texts | texts_around_borders())
@example(Text(""))
@example(Text("\x00\x1e\x7f\ufeff\uffff\U0010ffff"))
def test_a_frame_is_one_whole_text_frame_of_its_packet(text: Text) -> None:
    frame = frame_of(text)
    assert frame.text == frame.encode() == frame.encode(b64=True) == f"4{text}"
    assert frame.size == len(frame.text.encode())
    assert type(frame.wire) is bytes, "what is written to everybody must not change under a transport"
    [arrived] = parse_all(frame.wire)
    assert (arrived.opcode, arrived.fin, arrived.payload.decode()) == (Op.TEXT, True, frame.text)


@pytest.mark.parametrize("size", BORDERS[1:])
def test_the_length_takes_its_shortest_form(size: int) -> None:
    head = 2 if size < 126 else 4 if size < 65_536 else 10
    wire = frame_of(Text("", "x", size - 1)).wire
    assert len(wire) == head + size
    assert parse(wire[:-1]) is None


@given(st.lists(texts | texts_around_borders(), min_size=1, max_size=20))
def test_a_bundle_is_its_frames_in_order(sent: list[Text]) -> None:
    frames = [frame_of(text) for text in sent]
    before = [frame.wire for frame in frames]
    together = bundle(frames)
    assert [arrived.payload.decode() for arrived in parse_all(together.wire)] == [f"4{text}" for text in sent]
    assert list(together.frames) == frames
    assert [frame.wire for frame in frames] == before, "they are written to others alone"


@given(st.lists(texts | texts_around_borders(), min_size=1, max_size=20))
def test_whoever_polls_gets_the_frames_of_a_bundle_one_by_one(sent: list[Text]) -> None:
    together = bundle([frame_of(replace(text, letters=text.letters.replace("\x1e", ""))) for text in sent])
    body = "\x1e".join(frame.encode() for frame in together.frames)
    packets = [EnginePacket(encoded_packet=packet) for packet in body.split("\x1e")]
    assert [packet.packet_type for packet in packets] == [MESSAGE] * len(sent)


@given(st.lists(texts | texts_around_borders(), min_size=1, max_size=10))
def test_what_is_compressed_says_the_same(sent: list[Text]) -> None:
    frames = [frame_of(text) for text in sent]
    packets = inflated(bundle(frames).deflated)
    assert packets == [f"4{text}" for text in sent]
    assert packets == inflated(b"".join(frame.deflated for frame in frames)), "each suits a connection of its own"


def inflated(wire: bytes) -> list[str]:
    """The texts of frames of which some are compressed (RFC 7692, 7.2.2), each without the context of another."""
    texts = []
    while wire:
        compressed = bool(wire[0] & 0x40)
        parsed = parse(bytes([wire[0] & ~0x40]) + wire[1:])
        assert parsed is not None
        arrived, length = parsed
        assert (arrived.opcode, arrived.fin) == (Op.TEXT, True)
        data = arrived.payload
        if compressed:
            inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
            data = inflater.decompress(data + b"\x00\x00\xff\xff")
            assert not inflater.unused_data
            assert not inflater.unconsumed_tail
        texts.append(data.decode())
        wire = wire[length:]
    return texts
