use std::sync::Mutex;

use flate2::{Decompress, FlushDecompress};
use proptest::prelude::*;
use tokio::io::{DuplexStream, duplex};

use super::encoding::PixelFormat;
use super::protocol::Encodings;
use super::*;

/// A screen that tests draw on.
struct Canvas(Mutex<(Mode, Vec<u32>)>);

impl Canvas {
    fn new(width: u16, height: u16) -> Arc<Self> {
        let mode = Mode { width, height };
        // Parts of one colour, of few, and of very many.
        let pixel = |at: usize| {
            let (x, y) = (at % usize::from(width), at / usize::from(width));
            match x / 70 % 3 {
                0 => 0x0020_4060,
                1 => [0x00ff_0000, 0x0000_ff00, 0x0000_00ff][(x + y) % 3],
                _ => (x * 2_654_435 + y * 40_503) as u32 & 0x00ff_ffff,
            }
        };
        let pixels = (0..usize::from(width) * usize::from(height)).map(pixel).collect();
        Arc::new(Self(Mutex::new((mode, pixels))))
    }

    fn pixels(&self) -> Vec<u32> {
        self.0.lock().unwrap().1.clone()
    }

    fn set(&self, x: usize, y: usize, pixel: u32) {
        let mut screen = self.0.lock().unwrap();
        let width = usize::from(screen.0.width);
        screen.1[y * width + x] = pixel;
    }

    fn resize(&self, width: u16, height: u16) {
        let new = Self::new(width, height);
        *self.0.lock().unwrap() = (Mode { width, height }, new.pixels());
    }
}

impl Screen for Canvas {
    fn mode(&self) -> Mode {
        self.0.lock().unwrap().0
    }

    fn read(&self, mode: Mode, pixels: &mut Vec<u32>) {
        let screen = self.0.lock().unwrap();
        *pixels = screen.1.clone();
        pixels.resize(usize::from(mode.width) * usize::from(mode.height), 0);
    }
}

#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Recorder {
    fn heard(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Input for Recorder {
    fn key(&self, code: u16, down: bool) {
        self.0.lock().unwrap().push(format!("key {code} {down}"));
    }

    fn pointer(&self, x: u16, y: u16, buttons: Buttons, wheel: i8, sideways: i8) {
        let Buttons { left, middle, right } = buttons;
        let buttons = [left, middle, right].map(u8::from);
        self.0.lock().unwrap().push(format!("pointer {x} {y} {buttons:?} {wheel} {sideways}"));
    }
}

/// A client written by hand from the RFC.
struct Viewer {
    stream: DuplexStream,
    mode: Mode,
    pixels: Vec<u32>,
    inflate: Decompress,
    rects: usize,
    extended_key: bool,
}

impl Viewer {
    async fn connect(screen: Arc<Canvas>, input: Arc<Recorder>) -> (Self, tokio::task::JoinHandle<io::Result<()>>) {
        let (ours, theirs) = duplex(1 << 16);
        let server = tokio::spawn(async move { client(theirs, "a server", &*screen, &*input).await });
        let mut viewer = Self {
            stream: ours,
            mode: Mode { width: 0, height: 0 },
            pixels: Vec::new(),
            inflate: Decompress::new(true),
            rects: 0,
            extended_key: false,
        };
        assert_eq!(viewer.take(12).await, b"RFB 003.008\n");
        viewer.say(b"RFB 003.008\n").await;
        assert_eq!(viewer.take(2).await, [1, 1]);
        viewer.say(&[1]).await;
        assert_eq!(viewer.take(4).await, [0; 4]);
        viewer.say(&[0]).await;
        let init = viewer.take(24).await;
        let name = viewer.take(u32::from_be_bytes(init[20..24].try_into().unwrap()) as usize).await;
        assert_eq!(name, b"a server");
        assert_eq!(PixelFormat::parse(&init[4..20]), Some(PixelFormat::default()));
        viewer.resized(u16::from_be_bytes([init[0], init[1]]), u16::from_be_bytes([init[2], init[3]]));
        (viewer, server)
    }

    fn resized(&mut self, width: u16, height: u16) {
        self.mode = Mode { width, height };
        self.pixels = vec![0; usize::from(width) * usize::from(height)];
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn take(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        timeout(Duration::from_secs(20), self.stream.read_exact(&mut bytes)).await.unwrap().unwrap();
        bytes
    }

    async fn encodings(&mut self, list: &[i32]) {
        let mut message = vec![2, 0];
        message.extend((list.len() as u16).to_be_bytes());
        message.extend(list.iter().flat_map(|number| number.to_be_bytes()));
        self.say(&message).await;
    }

    async fn ask(&mut self, incremental: bool, rect: Rect) {
        let mut message = vec![3, u8::from(incremental)];
        message.extend([rect.x, rect.y, rect.width, rect.height].iter().flat_map(|side| side.to_be_bytes()));
        self.say(&message).await;
    }

    fn whole(&self) -> Rect {
        Rect { x: 0, y: 0, width: self.mode.width, height: self.mode.height }
    }

    async fn ask_all(&mut self, incremental: bool) {
        self.ask(incremental, self.whole()).await;
    }

    /// One update, drawn.
    async fn update(&mut self) {
        let head = self.take(4).await;
        assert_eq!(head[0], 0);
        self.rects = usize::from(u16::from_be_bytes([head[2], head[3]]));
        for _ in 0..self.rects {
            let head = self.take(12).await;
            let side = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
            let rect = Rect { x: side(0), y: side(2), width: side(4), height: side(6) };
            match i32::from_be_bytes(head[8..12].try_into().unwrap()) {
                0 => {
                    let bytes = self.take(4 * usize::from(rect.width) * usize::from(rect.height)).await;
                    let pixels: Vec<u32> =
                        bytes.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
                    self.draw(rect, &pixels);
                }
                16 => {
                    let length = u32::from_be_bytes(self.take(4).await.try_into().unwrap());
                    let packed = self.take(length as usize).await;
                    let pixels = unpack(&mut self.inflate, &packed, rect, &mut |bytes| {
                        let pixel = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
                        *bytes = &bytes[3..];
                        pixel
                    });
                    self.draw(rect, &pixels);
                }
                -223 => self.resized(rect.width, rect.height),
                -258 => self.extended_key = true,
                other => panic!("encoding {other}"),
            }
        }
    }

    fn draw(&mut self, rect: Rect, pixels: &[u32]) {
        for (line, source) in pixels.chunks(usize::from(rect.width)).enumerate() {
            let start = (usize::from(rect.y) + line) * usize::from(self.mode.width) + usize::from(rect.x);
            self.pixels[start..start + source.len()].copy_from_slice(source);
        }
    }
}

/// ZRLE of one rectangle, with pixels read by `next`.
fn unpack(inflate: &mut Decompress, packed: &[u8], rect: Rect, next: &mut dyn FnMut(&mut &[u8]) -> u32) -> Vec<u32> {
    let mut plain = Vec::with_capacity(8 * usize::from(rect.width) * usize::from(rect.height) + 65_536);
    let before = inflate.total_in();
    inflate.decompress_vec(packed, &mut plain, FlushDecompress::Sync).unwrap();
    assert_eq!((inflate.total_in() - before) as usize, packed.len());
    let mut bytes = &plain[..];
    let (width, height) = (usize::from(rect.width), usize::from(rect.height));
    let mut pixels = vec![0; width * height];
    for top in (0..height).step_by(64) {
        for left in (0..width).step_by(64) {
            let (tile_width, tile_height) = (64.min(width - left), 64.min(height - top));
            let kind = bytes[0];
            bytes = &bytes[1..];
            let mut put = |x: usize, y: usize, pixel: u32| pixels[(top + y) * width + left + x] = pixel;
            match kind {
                0 => {
                    (0..tile_width * tile_height).for_each(|at| put(at % tile_width, at / tile_width, next(&mut bytes)))
                }
                1..=16 => {
                    let palette: Vec<u32> = (0..kind).map(|_| next(&mut bytes)).collect();
                    let bits = match kind {
                        1 => 0,
                        2 => 1,
                        3..=4 => 2,
                        _ => 4,
                    };
                    for y in 0..tile_height {
                        let line = (tile_width * bits).div_ceil(8);
                        for x in 0..tile_width {
                            let shift = 8 - bits - x * bits % 8;
                            let index = if bits == 0 { 0 } else { bytes[x * bits / 8] >> shift & ((1 << bits) - 1) };
                            put(x, y, palette[usize::from(index)]);
                        }
                        bytes = &bytes[line..];
                    }
                }
                other => panic!("a tile of kind {other}"),
            }
        }
    }
    assert!(bytes.is_empty(), "{} bytes too many", bytes.len());
    pixels
}

#[tokio::test]
async fn a_client_sees_the_screen_and_then_only_what_changes() {
    for list in [&[16, 0][..], &[0, 16], &[]] {
        let screen = Canvas::new(300, 200);
        let (mut viewer, server) = Viewer::connect(Arc::clone(&screen), Arc::default()).await;
        viewer.encodings(list).await;
        viewer.ask_all(false).await;
        viewer.update().await;
        assert!(viewer.pixels == screen.pixels(), "{list:?}");
        viewer.ask_all(true).await;
        assert!(timeout(Duration::from_millis(200), viewer.stream.read_u8()).await.is_err(), "nothing has changed");
        screen.set(299, 199, 0x0012_3456);
        screen.set(0, 70, 0x0065_4321);
        viewer.update().await;
        assert_eq!(viewer.rects, 2);
        assert!(viewer.pixels == screen.pixels());
        // Only part of it is asked for; the rest comes when that is.
        screen.set(1, 1, 0x0011_1111);
        screen.set(250, 150, 0x0022_2222);
        viewer.ask(true, Rect { x: 0, y: 0, width: 10, height: 10 }).await;
        viewer.update().await;
        assert_eq!((viewer.rects, viewer.pixels[301]), (1, 0x0011_1111));
        viewer.ask(true, Rect { x: 60_000, y: 100, width: 60_000, height: 60_000 }).await;
        viewer.ask(true, Rect { x: 0, y: 0, width: 65_535, height: 65_535 }).await;
        viewer.update().await;
        assert!(viewer.pixels == screen.pixels());
        drop(viewer);
        server.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_new_size_is_told_to_who_understands_it_and_cut_for_others() {
    let screen = Canvas::new(100, 80);
    let (mut viewer, _server) = Viewer::connect(Arc::clone(&screen), Arc::default()).await;
    viewer.encodings(&[16, -223]).await;
    viewer.ask_all(true).await;
    viewer.update().await;
    assert!(viewer.pixels == screen.pixels());
    screen.resize(640, 130);
    viewer.ask_all(true).await;
    viewer.update().await;
    assert_eq!(viewer.mode, Mode { width: 640, height: 130 });
    viewer.ask_all(true).await;
    viewer.update().await;
    assert!(viewer.pixels == screen.pixels());

    let (mut simple, _server) = Viewer::connect(Arc::clone(&screen), Arc::default()).await;
    screen.resize(50, 500);
    simple.ask_all(false).await;
    simple.update().await;
    assert_eq!(simple.mode, Mode { width: 640, height: 130 });
    assert_eq!((simple.pixels[640 + 49], simple.pixels[640 + 50]), (screen.pixels()[99], 0));
}

#[tokio::test]
async fn keys_and_pointer_reach_the_guest_and_are_released_when_the_client_goes() {
    let input = Arc::new(Recorder::default());
    let (mut viewer, server) = Viewer::connect(Canvas::new(101, 51), Arc::clone(&input)).await;
    viewer.encodings(&[-258]).await;
    viewer.ask_all(true).await;
    viewer.update().await;
    assert!(viewer.extended_key);
    // "Q" by its place although the client's keyboard says "A"; "a" by its name; something that is no key.
    viewer.say(&[255, 0, 0, 1, 0, 0, 0, 0x61, 0, 0, 0, 0x10]).await;
    viewer.say(&[255, 0, 0, 0, 0, 0, 0, 0x61, 0, 0, 0, 0x10]).await;
    viewer.say(&[4, 1, 0, 0, 0, 0, 0, 0x61]).await;
    viewer.say(&[4, 1, 0, 0, 0, 0, 0, 0x61]).await;
    viewer.say(&[4, 0, 0, 0, 0, 0, 0, 0x62]).await;
    viewer.say(&[4, 1, 0, 0, 0x12, 0x34, 0x56, 0x78]).await;
    viewer.say(&[5, 0, 0, 0, 0, 0]).await;
    viewer.say(&[5, 1, 0, 100, 0, 50]).await;
    viewer.say(&[5, 9, 0xff, 0xff, 0, 25]).await;
    viewer.say(&[5, 1, 0xff, 0xff, 0, 25]).await;
    // A clipboard, which nobody wants, and something in two halves.
    viewer.say(&[6, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3, 4, 1, 0]).await;
    viewer.say(&[0, 0, 0, 0xff, 0xe1]).await;
    drop(viewer);
    server.await.unwrap().unwrap();
    let expected = [
        "key 16 true",
        "key 16 false",
        "key 30 true",
        "pointer 0 0 [0, 0, 0] 0 0",
        "pointer 32767 32767 [1, 0, 0] 0 0",
        "pointer 32767 16383 [1, 0, 0] 1 0",
        "pointer 32767 16383 [1, 0, 0] 0 0",
        "key 42 true",
        "key 30 false",
        "key 42 false",
        "pointer 32767 16383 [0, 0, 0] 0 0",
    ];
    assert_eq!(input.heard(), expected);
}

#[tokio::test]
async fn older_clients_are_greeted_in_their_own_way_and_strangers_not_at_all() {
    let talk = async |said: &[u8]| {
        let (mut ours, theirs) = duplex(4096);
        let screen = Canvas::new(32, 32);
        ours.write_all(said).await.unwrap();
        ours.shutdown().await.unwrap();
        let done = client(theirs, "x", &*screen, &Recorder::default()).await;
        let mut heard = Vec::new();
        ours.read_to_end(&mut heard).await.unwrap();
        (done.is_ok(), heard)
    };
    let init = |heard: &[u8]| heard.ends_with(&[0, 0, 0, 1, b'x']);
    let (ok, heard) = talk(b"RFB 003.003\n\x01").await;
    assert!(ok && heard[12..16] == [0, 0, 0, 1] && init(&heard) && heard.len() == 12 + 4 + 25);
    let (ok, heard) = talk(b"RFB 003.007\n\x01\x01").await;
    assert!(ok && heard[12..14] == [1, 1] && init(&heard) && heard.len() == 12 + 2 + 25);
    let (ok, heard) = talk(b"RFB 003.889\n\x01").await;
    assert!(ok && init(&heard));
    for strange in [&b"GET / HTTP/1.1\r\n"[..], b"RFB 004.001\n", b"RFB 003.008\n\x02"] {
        assert!(!talk(strange).await.0);
    }
    let greeted = b"RFB 003.008\n\x01\x01";
    let colour_map = [&greeted[..], &[0, 0, 0, 0, 8, 8, 0, 0], &[0; 12]].concat();
    let absurd_shift = [&greeted[..], &[0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 200, 8, 0, 0, 0, 0]].concat();
    let huge_clipboard = [&greeted[..], &[6, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]].concat();
    let many_encodings = [&greeted[..], &[2, 0, 0xff, 0xff]].concat();
    let unknown = [&greeted[..], &[77]].concat();
    for hostile in [colour_map, absurd_shift, huge_clipboard, many_encodings, unknown] {
        assert!(!talk(&hostile).await.0, "{hostile:?}");
    }
    assert!(talk(b"").await.0 && talk(b"RFB 003.0").await.0, "leaving is no offence");
}

/// The pixels of a PNG of 8 bits without interlacing, as 0x00RRGGBB, and its width.
fn png(file: &[u8]) -> (usize, Vec<u32>) {
    let (mut at, mut packed, mut width, mut channels) = (8, Vec::new(), 0, 3);
    while at + 8 <= file.len() {
        let length = u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize;
        let body = &file[at + 8..at + 8 + length];
        match &file[at + 4..at + 8] {
            b"IHDR" => {
                width = u32::from_be_bytes(body[..4].try_into().unwrap()) as usize;
                assert_eq!((body[8], body[12]), (8, 0));
                channels = if body[9] == 6 { 4 } else { 3 };
            }
            b"IDAT" => packed.extend_from_slice(body),
            _ => {}
        }
        at += 12 + length;
    }
    let mut plain = Vec::with_capacity(16 << 20);
    Decompress::new(true).decompress_vec(&packed, &mut plain, FlushDecompress::Finish).unwrap();
    let stride = width * channels;
    let mut before = vec![0_u8; stride];
    let mut pixels = Vec::new();
    for line in plain.chunks_exact(stride + 1) {
        let mut now = line[1..].to_vec();
        for x in 0..stride {
            let (left, corner) = if x < channels { (0, 0) } else { (now[x - channels], before[x - channels]) };
            let above = before[x];
            let guess = i32::from(left) + i32::from(above) - i32::from(corner);
            let distance = |value: u8| (guess - i32::from(value)).abs();
            let paeth = match (distance(left), distance(above), distance(corner)) {
                (a, b, c) if a <= b && a <= c => left,
                (_, b, c) if b <= c => above,
                _ => corner,
            };
            let average = ((u16::from(left) + u16::from(above)) / 2) as u8;
            let predicted = [0, left, above, average, paeth][usize::from(line[0])];
            now[x] = now[x].wrapping_add(predicted);
        }
        pixels.extend(now.chunks_exact(channels).map(|pixel| u32::from_be_bytes([0, pixel[0], pixel[1], pixel[2]])));
        before = now;
    }
    (width, pixels)
}

/// gtk-vnc's, of Debian's package gvncviewer.
#[tokio::test]
async fn a_stock_client_shows_the_screen() {
    if std::process::Command::new("gvnccapture").arg("--version").output().is_err() {
        eprintln!("not tested: no gvnccapture");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let screen = Canvas::new(333, 222);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    // The client counts displays from 5900.
    let display = i32::from(listener.local_addr().unwrap().port()) - 5900;
    let capture = tokio::process::Command::new("gvnccapture")
        .args(["-q", &format!("127.0.0.1:{display}"), "screen.png"])
        .current_dir(&folder)
        .status();
    let shown = Arc::clone(&screen);
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        client(stream, "a server", &*shown, &Recorder::default()).await
    });
    let status = timeout(Duration::from_secs(20), capture).await.unwrap().unwrap();
    assert!(status.success());
    let (width, pixels) = png(&std::fs::read(folder.path().join("screen.png")).unwrap());
    assert!(width == 333 && pixels == screen.pixels());
    server.abort();
}

#[test]
fn every_key_of_a_us_keyboard_has_a_code_by_name_and_by_place() {
    let names: Vec<u16> = (0x20..0x7f).filter_map(keys::from_keysym).collect();
    assert_eq!(names.len(), 95);
    assert_eq!((keys::from_keysym(u32::from(b'Z')), keys::from_keysym(u32::from(b'?'))), (Some(44), Some(53)));
    assert_eq!(
        (keys::from_keysym(0xff0d), keys::from_keysym(0xffc9), keys::from_keysym(0xe9)),
        (Some(28), Some(88), None)
    );
    assert_eq!((keys::from_scancode(0xc8), keys::from_scancode(0x48)), (Some(103), Some(72)));
    assert!((0..0x200).filter_map(keys::from_scancode).all(|code| (1..=248).contains(&code)));
    assert_eq!((keys::from_scancode(0), keys::from_scancode(u32::MAX)), (None, None));
}

fn format(bits: u8, depth: u8, big: bool, channels: [(u16, u8); 3]) -> PixelFormat {
    let mut bytes = vec![bits, depth, u8::from(big), 1];
    bytes.extend(channels.iter().flat_map(|(most, _)| most.to_be_bytes()));
    bytes.extend(channels.iter().map(|(_, shift)| *shift));
    bytes.extend([0; 3]);
    PixelFormat::parse(&bytes).unwrap()
}

/// What the RFC says of a pixel of ZRLE in that format.
fn compact_length(bits: u8, low: bool, high: bool) -> usize {
    if bits == 32 && (low || high) { 3 } else { usize::from(bits / 8) }
}

#[test]
fn zrle_speaks_every_pixel_format() {
    let mode = Mode { width: 130, height: 70 };
    let pixels: Vec<u32> =
        (0..130 * 70).map(|at| if at % 130 < 64 { 0x00ff_8000 } else { (at * 977) & 0x00ff_ffff }).collect();
    let rgb = [(255, 16), (255, 8), (255, 0)];
    for (bits, depth, channels, low, high) in [
        (32, 24, rgb, true, false),
        (32, 24, [(255, 0), (255, 8), (255, 16)], true, false),
        (32, 24, [(255, 24), (255, 16), (255, 8)], false, true),
        (32, 32, rgb, false, false),
        (16, 16, [(31, 11), (63, 5), (31, 0)], false, false),
        (8, 8, [(7, 0), (7, 3), (3, 6)], false, false),
    ] {
        for big in [false, true] {
            let mut encoder = Encoder::new();
            encoder.set_format(format(bits, depth, big, channels));
            let Some((_, Message::SetEncodings(encodings))) = protocol::parse(&[2, 0, 0, 1, 0, 0, 0, 16]).unwrap()
            else {
                panic!("not a list of encodings")
            };
            encoder.set_encodings(encodings);
            let rect = Rect { x: 0, y: 0, width: 130, height: 70 };
            let message = encoder.update(&pixels, mode, &[rect]);
            let length = compact_length(bits, low, high);
            let got = unpack(&mut Decompress::new(true), &message[20..], rect, &mut |bytes| {
                let (mut piece, rest) = (bytes[..length].to_vec(), &bytes[length..]);
                *bytes = rest;
                if big {
                    piece.reverse();
                }
                let value = piece.iter().rev().fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
                if length == 3 && high { value << 8 } else { value }
            });
            let expected: Vec<u32> = pixels
                .iter()
                .map(|pixel| {
                    let parts = [pixel >> 16 & 255, pixel >> 8 & 255, pixel & 255];
                    let scale =
                        |(part, (most, shift)): (&u32, &(u16, u8))| ((part * u32::from(*most) + 127) / 255) << shift;
                    parts.iter().zip(&channels).map(scale).sum()
                })
                .collect();
            assert!(got == expected, "{bits} bits, depth {depth}, big {big}, {channels:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_a_client_says_is_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0_u8..8) {
        let mut said = vec![if kind == 7 { 255 } else { kind }];
        said.extend(&bytes);
        if let Ok(Some((length, _))) = protocol::parse(&said) {
            prop_assert!(length <= said.len());
            // The same in pieces: nothing before the last byte, the same after it.
            prop_assert_eq!(protocol::parse(&said[..length - 1]).unwrap(), None);
            prop_assert_eq!(protocol::parse(&said[..length]).unwrap(), protocol::parse(&said).unwrap());
        }
    }

    #[test]
    fn a_client_that_talks_nonsense_never_stops_the_server(
        bytes in proptest::collection::vec(prop_oneof![Just(0_u8), Just(3), Just(5), any::<u8>()], 0..600),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut ours, theirs) = duplex(1 << 16);
            let screen = Canvas::new(70, 70);
            ours.write_all(b"RFB 003.008\n\x01\x01").await.unwrap();
            ours.write_all(&bytes).await.unwrap();
            ours.shutdown().await.unwrap();
            let _ = client(theirs, "x", &*screen, &Recorder::default()).await;
        });
    }

    #[test]
    fn what_zrle_packs_can_be_unpacked(
        width in 1_u16..150, height in 1_u16..150, colours in 1_u32..40, seed: u32, x in 0_u16..150, y in 0_u16..150,
    ) {
        let mode = Mode { width, height };
        let pixels: Vec<u32> = (0..u32::from(width) * u32::from(height))
            .map(|at| ((at.wrapping_mul(seed | 1) >> 7) % colours * 65_793) & 0x00ff_ffff)
            .collect();
        let mut encoder = Encoder::new();
        let mut encodings = Encodings::default();
        encodings.zrle = true;
        encoder.set_encodings(encodings);
        let mut inflate = Decompress::new(true);
        for rect in [Rect { x: 0, y: 0, width, height }, Rect { x, y, width: 80, height: 80 }.clip(mode)] {
            let message = encoder.update(&pixels, mode, &[rect]);
            let got = unpack(&mut inflate, &message[20..], rect, &mut |bytes| {
                let pixel = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
                *bytes = &bytes[3..];
                pixel
            });
            for (at, pixel) in got.iter().enumerate() {
                let (px, py) = (at % usize::from(rect.width), at / usize::from(rect.width));
                let there = (usize::from(rect.y) + py) * usize::from(width) + usize::from(rect.x) + px;
                prop_assert_eq!(*pixel, pixels[there]);
            }
        }
    }
}
