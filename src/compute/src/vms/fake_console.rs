//! What a fake says on its consoles: the greeting of a screen that shows nothing, and a serial line that echoes.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

const WIDTH: u16 = 640;
const HEIGHT: u16 = 400;
/// 32 bits a pixel, 24 of colour, little-endian true colour, as RFC 6143 section 7.4 lays it out.
const PIXELS: [u8; 16] = [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];

/// RFB 3.8 up to the server's initialisation (RFC 6143, section 7.1 to 7.3); what comes then is heard and not answered.
pub(super) async fn screen(mut client: UnixStream, name: String) -> std::io::Result<()> {
    client.write_all(b"RFB 003.008\n").await?;
    client.read_exact(&mut [0; 12]).await?;
    // One security type: none. The client takes it.
    client.write_all(&[1, 1]).await?;
    client.read_exact(&mut [0; 1]).await?;
    client.write_all(&[0; 4]).await?;
    client.read_exact(&mut [0; 1]).await?;
    let mut start = [WIDTH.to_be_bytes(), HEIGHT.to_be_bytes()].concat();
    start.extend(PIXELS);
    start.extend(u32::try_from(name.len()).unwrap_or(u32::MAX).to_be_bytes());
    start.extend(name.as_bytes());
    client.write_all(&start).await?;
    tokio::io::copy(&mut client, &mut tokio::io::sink()).await.map(|_| ())
}

/// What it has printed so far, then whatever it is told.
pub(super) async fn serial(mut client: UnixStream, printed: Vec<u8>) -> std::io::Result<()> {
    client.write_all(&printed).await?;
    let (mut from, mut to) = client.split();
    tokio::io::copy(&mut from, &mut to).await.map(|_| ())
}
