//! Remote consoles: the screen (RFB, as VNC clients speak it) and the first serial line of a server, over WebSocket.
//!
//! An API call makes a token, which opens one connection within ten minutes. Only its hash is kept. The connection is
//! made to `/console/ws?token=...` (or `/websockify?token=...`, as clients of nova-novncproxy know it), on the shared port
//! and on the console's.

pub(crate) mod handlers;
mod model;
pub(crate) mod policy;
mod proxy;
mod store;

pub(crate) use proxy::router;
