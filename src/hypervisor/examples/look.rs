//! Looks at the screen of a machine once, and types into it: `look SOCKET FILE [TEXT]`.
//!
//! The picture goes to the file (PPM); then the text is typed, with the return key for a new line. Says the screen's name
//! and size, and how many of its pixels are not black.
#![allow(clippy::print_stdout, reason = "a program for a terminal")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a program for tests")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

fn main() {
    let mut words = std::env::args().skip(1);
    let (socket, file) = (words.next().expect("a socket"), words.next().expect("a file"));
    let mut stream = UnixStream::connect(socket).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let greeting: [u8; 12] = read(&mut stream);
    assert_eq!(&greeting, b"RFB 003.008\n");
    stream.write_all(&greeting).unwrap();
    let [kinds] = read(&mut stream);
    for _ in 0..kinds {
        let [_] = read(&mut stream);
    }
    stream.write_all(&[1]).unwrap();
    assert_eq!(read(&mut stream), [0; 4], "it lets in");
    stream.write_all(&[1]).unwrap();
    let size: [u8; 4] = read(&mut stream);
    let _format: [u8; 16] = read(&mut stream);
    let length = u32::from_be_bytes(read(&mut stream));
    let mut name = vec![0; length as usize];
    stream.read_exact(&mut name).unwrap();
    let (width, height) = (u16::from_be_bytes([size[0], size[1]]), u16::from_be_bytes([size[2], size[3]]));

    // 32 bits, little-endian, 0x00RRGGBB; raw only; all of the screen.
    stream.write_all(&[0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]).unwrap();
    stream.write_all(&[2, 0, 0, 1, 0, 0, 0, 0]).unwrap();
    let mut request = vec![3, 0, 0, 0, 0, 0];
    request.extend(size);
    stream.write_all(&request).unwrap();
    let [kind, _, high, low] = read(&mut stream);
    assert_eq!(kind, 0, "an update");
    let mut picture = vec![0; usize::from(width) * usize::from(height) * 3];
    for _ in 0..u16::from_be_bytes([high, low]) {
        let place: [u8; 12] = read(&mut stream);
        let number = |at: usize| usize::from(u16::from_be_bytes([place[at], place[at + 1]]));
        for y in number(2)..number(2) + number(6) {
            let mut line = vec![0; 4 * number(4)];
            stream.read_exact(&mut line).expect("a line of pixels");
            for (x, pixel) in line.chunks(4).enumerate() {
                let at = 3 * (y * usize::from(width) + number(0) + x);
                picture[at..at + 3].copy_from_slice(&[pixel[2], pixel[1], pixel[0]]);
            }
        }
    }
    let lit = picture.chunks(3).filter(|pixel| **pixel != [0; 3]).count();
    println!("LOOK {:?} {width}x{height}, {lit} pixels are not black", String::from_utf8_lossy(&name));
    let mut out = format!("P6 {width} {height} 255\n").into_bytes();
    out.extend(picture);
    std::fs::write(file, out).expect("the picture");

    for letter in words.next().unwrap_or_default().replace("\\n", "\n").chars() {
        let symbol = if letter == '\n' { 0xff0d } else { u32::from(letter) };
        for down in [1, 0] {
            let mut key = vec![4, down, 0, 0];
            key.extend(symbol.to_be_bytes());
            stream.write_all(&key).unwrap();
        }
    }
    // An answer after the keys: they have been heard.
    stream.write_all(&request).unwrap();
    let [_] = read(&mut stream);
}

fn read<const N: usize>(stream: &mut UnixStream) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).expect("more of the stream");
    bytes
}
